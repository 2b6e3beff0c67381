"""What a run was made with: everything that could explain why two runs differ."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from moeproof.devices import Device, describe, prepare_environment
from moeproof.report.suite_hash import suite_hash

_DISTRIBUTIONS = {
    "torch": ("torch",),
    # Triton for ROCm comes under other names: beside torch's wheels from 2.10 on, and before.
    "triton": ("triton", "triton-rocm", "pytorch-triton-rocm", "pytorch-triton"),
    "numpy": ("numpy",),
    "ml_dtypes": ("ml_dtypes",),
}
_FLAGS = ("CUDA_VISIBLE_DEVICES", "HIP_", "HSA_", "PYTORCH_", "ROCR_", "TRITON_")


@dataclass(frozen=True)
class Package:
    """An installed distribution and the module that it provides."""

    module: str
    distribution: str
    version: str


@dataclass(frozen=True)
class RunMetadata:
    """What a run was made with.

    Attributes:
        implementation: the reference that the user gave, such as ``moe_dispatch``.
        implementation_version: as the implementation says it.
        device: the name the user gave, such as ``rocm``.
        device_description: ``name``, ``architecture``, ``memory``, ``driver``, ``runtime``.
        packages: torch, triton, numpy, ml_dtypes. Two entries for one module mean that one
            distribution was installed over another.
        python: version. platform: operating system, kernel and processor.
        environment: flags that change how kernels are compiled or which GPU is seen, as the
            implementation saw them.
        profile: which cases.
        suite_version, suite_hash: of moeproof itself.
    """

    implementation: str
    implementation_version: str
    device: str
    device_description: Mapping[str, str]
    packages: tuple[Package, ...]
    python: str
    platform: str
    environment: Mapping[str, str]
    profile: str
    suite_version: str
    suite_hash: str


def collect_metadata(
    *, implementation: str, version: str, device: Device, profile: str
) -> RunMetadata:
    """The metadata of a run on this machine."""
    return RunMetadata(
        implementation=implementation,
        implementation_version=version,
        device=device.name,
        device_description=describe(device),
        packages=_installed_packages(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        environment=_flags(device),
        profile=profile,
        suite_version=installed_version("moeproof"),
        suite_hash=suite_hash(),
    )


def _installed_packages() -> tuple[Package, ...]:
    found = []
    for module, distributions in _DISTRIBUTIONS.items():
        for distribution in distributions:
            try:
                found.append(Package(module, distribution, installed_version(distribution)))
            except PackageNotFoundError:
                continue
    return tuple(found)


def _flags(device: Device) -> dict[str, str]:
    """The flags as a worker sees them, once the environment is prepared for the device."""
    environ = dict(os.environ)
    prepare_environment(device.name, environ)
    return {name: environ[name] for name in sorted(environ) if name.startswith(_FLAGS)}
