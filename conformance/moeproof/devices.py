"""The devices a case can run on: what each is, and what to do where one is missing.

A device that was asked for and is missing is an error that says what was found, never a skip.
``python -m moeproof.devices NAME`` checks one from the command line (the preflight of
``tox -e cuda`` and ``tox -e rocm``).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from moeproof.architectures import ARCHITECTURES

if TYPE_CHECKING:
    import torch

EMULATED_DEVICES = tuple(
    name for name, architecture in ARCHITECTURES.items() if architecture.backend == "hip"
)
"""AMD GPUs whose machine code can be executed on the CPU."""

GPU_DEVICES = ("cuda", "rocm")
DEVICE_NAMES = ("cpu", *GPU_DEVICES, *EMULATED_DEVICES)
_KERNEL_MODULES = Path("/sys/module")
_EMULATOR_MODULES = ("elftools", "msgpack", "tinygrad", "triton")


@dataclass(frozen=True)
class _Vendor:
    """What to look for, and what to tell the user, when a GPU is missing."""

    device_node: str
    visibility_variables: tuple[str, ...]


_VENDORS = {
    "cuda": _Vendor(
        device_node="/dev/nvidiactl",
        visibility_variables=("CUDA_VISIBLE_DEVICES",),
    ),
    "rocm": _Vendor(
        device_node="/dev/kfd",
        visibility_variables=(
            "HIP_VISIBLE_DEVICES",
            "ROCR_VISIBLE_DEVICES",
            "CUDA_VISIBLE_DEVICES",
        ),
    ),
}


class DeviceError(ValueError):
    """The device's name is unknown, or the device is not usable on this machine."""


@dataclass(frozen=True)
class Device:
    """One of ``DEVICE_NAMES``; raises ``DeviceError`` for any other name."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in DEVICE_NAMES:
            raise DeviceError(f"device: got {self.name!r}, allowed: {', '.join(DEVICE_NAMES)}")

    @property
    def is_gpu(self) -> bool:
        """Tensors live on a GPU."""
        return self.name in GPU_DEVICES

    @property
    def is_emulated(self) -> bool:
        """Triton's kernels are compiled for a GPU that is not there, and emulated on the CPU."""
        return self.name in EMULATED_DEVICES

    @property
    def torch_device(self) -> torch.device:
        """Where tensors go. torch calls AMD GPUs ``cuda`` too."""
        import torch

        return torch.device("cuda:0" if self.is_gpu else "cpu")


def resolve_device(name: str) -> Device:
    """The device of that name, checked to be usable here.

    Raises ``DeviceError`` for an unknown name, for a missing torch, for a torch built for another
    vendor, where torch sees no GPU, and where ``visibility_variable`` does; the message lists what
    was found and how to start a container that has the device.
    """
    device = Device(name)
    torch = _import_torch(name)
    if device.is_emulated:
        _require_emulator(name)
    if not device.is_gpu:
        return device
    visibility_variable(name, os.environ)
    builds = {"cuda": torch.version.cuda, "rocm": torch.version.hip}
    # A HIP build may report a CUDA version as well, so HIP decides whose build it is.
    built_for = "rocm" if builds["rocm"] else "cuda" if builds["cuda"] else None
    if built_for is None:
        raise _missing(name, "this torch is built for the CPU only")
    if built_for != name:
        raise _missing(name, f"this torch is built for device {built_for!r}")
    if not torch.cuda.is_available():
        raise _missing(name, "torch sees no GPU")
    return device


def prepare_environment(name: str, environ: MutableMapping[str, str]) -> None:
    """Set what must be set before the implementation is imported in a worker.

    Triton reads ``TRITON_INTERPRET`` while kernels are being decorated. The CPU needs Triton's
    interpreter; on a GPU, real or emulated, a variable left over in the shell would make a run that
    never reaches the GPU's code.
    """
    device = Device(name)
    if device.is_gpu or device.is_emulated:
        environ.pop("TRITON_INTERPRET", None)
    else:
        environ["TRITON_INTERPRET"] = "1"


def synchronize(device: Device) -> None:
    """Wait until all work queued on the device is done, so that its errors surface here."""
    if device.is_gpu:
        import torch

        torch.cuda.synchronize(device.torch_device)


def describe(device: Device) -> dict[str, str]:
    """What the device is: ``name``, ``architecture`` (``sm_90``, ``gfx942``, ``x86_64``),
    ``memory``, ``driver`` and ``runtime``.
    """
    if not device.is_gpu:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        processor = _processor_name()
        return {
            "name": f"emulated {device.name}" if device.is_emulated else processor,
            "architecture": device.name if device.is_emulated else platform.machine(),
            "memory": _gibibytes(memory),
            "driver": f"{platform.system()} {platform.release()}"
            + (f", emulated on {processor}" if device.is_emulated else ""),
            "runtime": f"Python {platform.python_version()}",
        }
    import torch

    properties = torch.cuda.get_device_properties(device.torch_device)
    name, architecture = describe_gpu(device.name, properties)
    if device.name == "rocm":
        driver, runtime = _driver_version("amdgpu"), f"HIP {torch.version.hip}"
    else:
        driver, runtime = _driver_version("nvidia"), f"CUDA {torch.version.cuda}"
    return {
        "name": name,
        "architecture": architecture,
        "memory": _gibibytes(properties.total_memory),
        "driver": driver,
        "runtime": runtime,
    }


def describe_gpu(device: str, properties: Any) -> tuple[str, str]:
    """A GPU's name and architecture (``sm_90``, ``gfx942``), from torch's properties of it."""
    if device == "rocm":
        # "gfx942:sramecc+:xnack-": the target's features follow its name.
        return properties.name, properties.gcnArchName.split(":")[0]
    return properties.name, f"sm_{properties.major}{properties.minor}"


def visibility_variable(device: str, environ: Mapping[str, str]) -> str:
    """The environment variable that chooses among the GPUs of ``cuda`` or ``rocm``.

    That is the one which is set, else the vendor's own. Raises ``DeviceError`` where two are set,
    since each renumbers what the other leaves, or one that this vendor's GPUs do not follow.
    """
    allowed = _VENDORS[device].visibility_variables
    given = [variable for variable in _VENDORS["rocm"].visibility_variables if variable in environ]
    if len(given) > 1 or not set(given) <= set(allowed):
        found = " and ".join(f"{variable}={environ[variable]!r}" for variable in given)
        raise DeviceError(
            f"device {device!r}: {found} in the environment; at most one may be set, "
            f"allowed: {', '.join(allowed)}"
        )
    return given[0] if given else allowed[0]


def preflight(name: str) -> str:
    """One line on the device of that name; a GPU has computed something before it is returned.

    Raises ``DeviceError`` where ``resolve_device`` does, and where the GPU cannot compute (a driver
    too old, an architecture this torch has no code for).
    """
    device = resolve_device(name)
    torch = _import_torch(name)
    if device.is_gpu:
        try:
            torch.ones(1, device=device.torch_device).sum().item()
        except RuntimeError as error:
            raise _missing(name, f"the GPU cannot compute: {error}") from error
    return f"{name}: {', '.join(describe(device).values())}, torch {torch.__version__}"


def main(arguments: list[str]) -> int:
    """Print the preflight's line and return 0, or its explanation and return 2."""
    if len(arguments) != 1:
        print(
            f"usage: python -m moeproof.devices {{{','.join(DEVICE_NAMES)}}}",
            file=sys.stderr,
        )
        return 2
    try:
        print(preflight(arguments[0]))
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _import_torch(name: str) -> ModuleType:
    try:
        import torch
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"device {name!r}: torch cannot be imported ({error}); "
            f"install moeproof[{name}] or use a container that brings torch"
        ) from error
    return torch


def _require_emulator(name: str) -> None:
    """Raise DeviceError unless the packages that the emulator is built on are installed."""
    missing = [module for module in _EMULATOR_MODULES if find_spec(module) is None]
    if missing:
        raise DeviceError(
            f"device {name!r}: the emulator needs {', '.join(missing)}; install moeproof[amd,cpu] "
            "(Python 3.11 or newer)"
        )


def _missing(name: str, reason: str) -> DeviceError:
    return DeviceError(
        f"device {name!r}: {reason}\n"
        f"  found: {_found(_VENDORS[name])}\n"
        f"  On a machine with the GPU, in a checkout, a container with everything needed:\n"
        f"    ci/containers/run {name}"
    )


def _found(vendor: _Vendor) -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    node = "present" if Path(vendor.device_node).exists() else "missing"
    variables = [
        f"{variable}={os.environ[variable]!r}" if variable in os.environ else f"{variable} not set"
        for variable in vendor.visibility_variables
    ]
    return "; ".join(
        [
            f"torch {torch.__version__} (CUDA {torch.version.cuda}, HIP {torch.version.hip})",
            f"{len(names)} devices" + (f": {', '.join(names)}" if names else ""),
            f"{vendor.device_node} {node}",
            *variables,
        ]
    )


def _driver_version(kernel_module: str) -> str:
    """A loaded kernel module's version. A driver that is part of the Linux kernel has none."""
    version = _KERNEL_MODULES / kernel_module / "version"
    if version.is_file():
        return f"{kernel_module} {version.read_text().strip()}"
    return f"{kernel_module} of unknown version on Linux {platform.release()}"


def _processor_name() -> str:
    """The processor's model name as Linux reports it, else what the platform module knows."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
