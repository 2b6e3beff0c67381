"""The must-pass list: the cases that every certified implementation has passed, fixed by version.

The lists are files, one case id a line, so that a profile can grow without moving them. Their
digests are frozen here: to change a list is to change this module, and the version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from moeproof.case_id import AnyCase, parse_case_id
from moeproof.fixture_files import fixtures_directory

GPU_DEVICES = ("cuda", "rocm")
_EVERY_DEVICE, _GPU = "every_device.txt", "gpu.txt"
_DIGESTS = {
    _EVERY_DEVICE: "e644c1ca19a038b97869ab3f32d3fb6010ecb2ef7d27d11e80308b975c85349c",
    _GPU: "19f393721768f296f735009be2b7ac0f3a504aca45b6dd0fb09c2f64c339fa61",
}


class CertificationListError(ValueError):
    """The installed must-pass list is not the one of this version."""


def certification_case_ids(device_name: str) -> list[str]:
    """The must-pass list's case ids on a device, in order.

    Raises:
        CertificationListError: a list was edited.
    """
    files = [_EVERY_DEVICE, *([_GPU] if device_name in GPU_DEVICES else [])]
    return [case_id for name in files for case_id in _read(name)]


def certification_cases(device_name: str) -> list[AnyCase]:
    """The cases with these ids."""
    return [parse_case_id(case_id) for case_id in certification_case_ids(device_name)]


def digest_of_case_ids(case_ids: Iterable[str]) -> str:
    """sha256, in hexadecimal, of a set of case ids, whatever their order."""
    text = "".join(f"{case_id}\n" for case_id in sorted(set(case_ids)))
    return hashlib.sha256(text.encode()).hexdigest()


def _read(name: str) -> list[str]:
    path = fixtures_directory() / "certification" / name
    case_ids = path.read_text("utf-8").splitlines()
    digest = digest_of_case_ids(case_ids)
    if digest != _DIGESTS[name]:
        raise CertificationListError(
            f"{path}: its digest is {digest}, this version's is {_DIGESTS[name]}"
        )
    return case_ids
