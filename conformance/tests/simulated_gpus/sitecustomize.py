"""A machine with GPUs that are not there, for every Python process with this folder on its path.

``SIMULATED_GPUS`` is a JSON list with an object for each GPU: name, uuid, free_bytes, total_bytes.
torch then says what it would say there, following the vendor's visibility variable, and tensors
that belong on a GPU go to the CPU. ``SIMULATED_VENDOR`` is ``cuda`` or ``rocm``.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any

GPUS = json.loads(os.environ["SIMULATED_GPUS"])
VENDOR = os.environ.get("SIMULATED_VENDOR", "cuda")


def _visible() -> list[dict[str, Any]]:
    variables = ["CUDA_VISIBLE_DEVICES"]
    if VENDOR == "rocm":
        variables += ["HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]
    for variable in variables:
        if variable in os.environ:
            return [_named(entry) for entry in os.environ[variable].split(",") if entry]
    return list(GPUS)


def _named(entry: str) -> dict[str, Any]:
    by_uuid = {gpu["uuid"]: gpu for gpu in GPUS}
    return by_uuid[entry] if entry in by_uuid else GPUS[int(entry)]


def _properties(index: int) -> SimpleNamespace:
    gpu = _visible()[index]
    return SimpleNamespace(
        name=gpu["name"],
        uuid=gpu["uuid"],
        total_memory=gpu["total_bytes"],
        major=9,
        minor=0,
        gcnArchName="gfx942:sramecc+:xnack-",
    )


def _change_torch(torch: Any) -> None:
    torch.version.cuda = "13.0" if VENDOR == "cuda" else None
    torch.version.hip = "7.2" if VENDOR == "rocm" else None
    torch.cuda.device_count = lambda: len(_visible())
    torch.cuda.is_available = lambda: bool(_visible())
    torch.cuda.get_device_name = lambda index=0: _visible()[index]["name"]
    torch.cuda.get_device_properties = lambda device=0: _properties(
        device if isinstance(device, int) else device.index or 0
    )
    torch.cuda.mem_get_info = lambda index=0: (
        _visible()[index]["free_bytes"],
        _visible()[index]["total_bytes"],
    )
    torch.cuda.synchronize = lambda device=None: None


def _change_devices(devices: Any) -> None:
    def torch_device(self: object) -> Any:
        import torch

        return torch.device("cpu")

    devices.Device.torch_device = property(torch_device)


_CHANGES = {"torch": _change_torch, "moeproof.devices": _change_devices}


class _ChangingLoader(Loader):
    def __init__(self, loader: Any, change: Any) -> None:
        self._loader = loader
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        change = _CHANGES.get(fullname)
        spec = PathFinder.find_spec(fullname, path) if change is not None else None
        if spec is not None:
            spec.loader = _ChangingLoader(spec.loader, change)
        return spec


sys.meta_path.insert(0, _Finder())
