"""In what two runs differ, and which differences keep them from being parts of one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from moeproof.report.metadata import RunMetadata

# They say which of several equal machines or GPUs was used, and decide no verdict.
_PLACES = frozenset(
    {
        "platform",
        "environment.CUDA_VISIBLE_DEVICES",
        "environment.HIP_VISIBLE_DEVICES",
        "environment.ROCR_VISIBLE_DEVICES",
        "environment.TRITON_CACHE_DIR",
        "environment.TRITON_HOME",
    }
)
_ABSENT = "nothing"


@dataclass(frozen=True)
class Difference:
    """A field of the metadata in which two runs differ, and both values."""

    field: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.field}: {self.first} and {self.second}"


def differences(first: RunMetadata, second: RunMetadata) -> list[Difference]:
    """Every field in which two runs' metadata differ, such as ``packages.torch``."""
    left, right = _flat(first), _flat(second)
    return [
        Difference(name, left.get(name, _ABSENT), right.get(name, _ABSENT))
        for name in dict.fromkeys((*left, *right))
        if left.get(name) != right.get(name)
    ]


def deciding_differences(first: RunMetadata, second: RunMetadata) -> list[Difference]:
    """Those for which two reports cannot be parts of one run."""
    return [item for item in differences(first, second) if item.field not in _PLACES]


def joined(all_metadata: list[RunMetadata]) -> RunMetadata:
    """The metadata of a run made of parts that differ in no field that decides a verdict.

    Where they differ all the same, as in the platform, all values are named.
    """
    first = all_metadata[0]
    platforms = dict.fromkeys(metadata.platform for metadata in all_metadata)
    names = dict.fromkeys(name for metadata in all_metadata for name in metadata.environment)
    environment = {
        name: " | ".join(
            dict.fromkeys(metadata.environment.get(name, _ABSENT) for metadata in all_metadata)
        )
        for name in names
    }
    values = {field.name: getattr(first, field.name) for field in fields(RunMetadata)}
    return RunMetadata(**{**values, "platform": " | ".join(platforms), "environment": environment})


def _flat(metadata: RunMetadata) -> dict[str, str]:
    return dict(_items(metadata))


def _items(metadata: RunMetadata) -> Iterator[tuple[str, str]]:
    for field in fields(RunMetadata):
        value = getattr(metadata, field.name)
        if field.name == "packages":
            modules: dict[str, list[str]] = {}
            for package in metadata.packages:
                modules.setdefault(package.module, []).append(
                    f"{package.distribution} {package.version}"
                )
            yield from (
                (f"packages.{module}", ", ".join(found)) for module, found in modules.items()
            )
        elif field.name in ("device_description", "environment"):
            yield from ((f"{field.name}.{name}", text) for name, text in value.items())
        else:
            yield field.name, value
