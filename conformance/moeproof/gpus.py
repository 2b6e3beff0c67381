"""The GPUs a run may use, and whether they are fit for one.

``python -m moeproof.gpus NAME`` lists those of a device as a line of JSON. A process of its own
does that, so that the supervisor of the workers neither imports torch nor holds any GPU's memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from moeproof.devices import DeviceError, describe_gpu, resolve_device, visibility_variable

LEAST_FREE_SHARE = 0.5
"""Below this share of its memory, what others hold could make right kernels fail: an error."""

USUAL_FREE_SHARE = 0.9
"""Below this share somebody else is at work there: a warning."""

_LISTING_SECONDS = 300.0


@dataclass(frozen=True)
class Gpu:
    """One GPU that is visible to this process.

    Attributes:
        index: torch's number of it, among those that are visible.
        name: the product's.
        architecture: ``sm_90``, ``gfx942``.
        identity: the same in every process on this machine, whatever is visible there.
        free_bytes: memory that nobody holds.
        total_bytes: all of its memory.
        visible_by: the environment variable and the value that make it the only one visible.
    """

    index: int
    name: str
    architecture: str
    identity: str
    free_bytes: int
    total_bytes: int
    visible_by: tuple[str, str]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Gpu:
        """From a row of JSON, in which tuples are lists."""
        return cls(**{**row, "visible_by": tuple(row["visible_by"])})

    def __str__(self) -> str:
        return f"GPU {self.index} ({self.name}, {self.identity})"


def visible_gpus(device: str) -> tuple[Gpu, ...]:
    """The GPUs of device ``cuda`` or ``rocm`` that a worker could see, at least one.

    Raises:
        DeviceError: as :func:`moeproof.devices.resolve_device`; or they cannot be listed.
    """
    try:
        listing = subprocess.run(
            [sys.executable, "-m", "moeproof.gpus", device],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LISTING_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"device {device!r}: its GPUs did not answer within {_LISTING_SECONDS:g} s"
        ) from error
    if listing.returncode == 2:
        raise DeviceError(listing.stderr.strip())
    if listing.returncode != 0:
        raise DeviceError(
            f"device {device!r}: its GPUs cannot be listed (exit code {listing.returncode}):\n"
            f"{listing.stderr.strip()}"
        )
    # torch and drivers may have written before.
    return tuple(map(Gpu.from_row, json.loads(listing.stdout.splitlines()[-1])))


def fitness_warnings(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """What is to be told about GPUs that a run can use all the same.

    Raises:
        DeviceError: they are of several models, so that one report could not speak for all; or one
            has too little free memory.
    """
    kinds = {(gpu.name, gpu.architecture): gpu for gpu in reversed(gpus)}
    if len(kinds) > 1:
        found = " and ".join(str(gpu) for gpu in reversed(kinds.values()))
        raise DeviceError(
            f"the GPUs of a run must be of one model, found {found}; choose by "
            f"{gpus[0].visible_by[0]}"
        )
    occupied = [gpu for gpu in gpus if gpu.free_bytes < LEAST_FREE_SHARE * gpu.total_bytes]
    if occupied:
        raise DeviceError(
            f"{'; '.join(map(_occupancy, occupied))}: at least {LEAST_FREE_SHARE:.0%} must be "
            f"free; end what holds it, or leave that GPU out by {gpus[0].visible_by[0]}"
        )
    return tuple(
        f"{_occupancy(gpu)}: somebody else is at work there"
        for gpu in gpus
        if gpu.free_bytes < USUAL_FREE_SHARE * gpu.total_bytes
    )


def _occupancy(gpu: Gpu) -> str:
    return (
        f"{gpu} has {gpu.free_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB free "
        f"({gpu.free_bytes / gpu.total_bytes:.0%})"
    )


def _list_gpus(device: str, environ: Mapping[str, str]) -> list[Gpu]:
    resolve_device(device)
    import torch

    variable = visibility_variable(device, environ)
    given = environ.get(variable)
    gpus = []
    seen: Counter[str] = Counter()
    for index in range(torch.cuda.device_count()):
        try:
            free_bytes, total_bytes = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            raise DeviceError(f"device {device!r}: GPU {index} does not answer: {error}") from error
        properties = torch.cuda.get_device_properties(index)
        # torch before 2.9 has no PCI address, drivers of some consumer GPUs have no UUID, and the
        # partitions of one GPU may share both.
        places = ("uuid", "pci_domain_id", "pci_bus_id", "pci_device_id")
        found = [str(getattr(properties, place)) for place in places if hasattr(properties, place)]
        identity = "-".join(found) or str(index)
        seen[identity] += 1
        if seen[identity] > 1:
            identity += f"-{seen[identity]}"
        name, architecture = describe_gpu(device, properties)
        entry = given.split(",")[index].strip() if given is not None else str(index)
        gpus.append(
            Gpu(index, name, architecture, identity, free_bytes, total_bytes, (variable, entry))
        )
    return gpus


def main(arguments: list[str]) -> int:
    """Print the GPUs of a device, or why there are none."""
    (device,) = arguments
    try:
        print(json.dumps([asdict(gpu) for gpu in _list_gpus(device, os.environ)]))
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
