"""A device is found, described, or refused with what was found; GPUs are simulated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from moeproof import devices
from moeproof.devices import (
    Device,
    DeviceError,
    describe,
    main,
    preflight,
    prepare_environment,
    resolve_device,
    synchronize,
)


@pytest.fixture
def pretend_build(monkeypatch):
    """Make torch look like a build for CUDA or HIP that sees the named GPUs."""

    def pretend(*, cuda: str | None = None, hip: str | None = None, gpus: tuple[str, ...] = ()):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: gpus[index])

    return pretend


def test_the_cpu_is_always_there():
    device = resolve_device("cpu")
    assert device == Device("cpu")
    assert device.torch_device == torch.device("cpu")


@pytest.mark.parametrize("name", ["rcom", "", "CUDA", "cuda:0", "gpu"])
def test_an_unknown_name_is_refused_with_the_allowed_ones(name):
    for refuse in (resolve_device, Device, lambda name: prepare_environment(name, {})):
        with pytest.raises(DeviceError, match=r"allowed: cpu, cuda, rocm") as error:
            refuse(name)
        assert repr(name) in str(error.value)


def test_a_cuda_build_is_cuda_and_not_rocm(pretend_build):
    pretend_build(cuda="13.0", gpus=("NVIDIA H200",))
    assert resolve_device("cuda").torch_device == torch.device("cuda:0")
    with pytest.raises(DeviceError, match="built for device 'cuda'") as error:
        resolve_device("rocm")
    assert "NVIDIA H200" in str(error.value)


@pytest.mark.parametrize("cuda", [None, "12.4"])
def test_a_hip_build_is_rocm_and_not_cuda(pretend_build, cuda):
    pretend_build(cuda=cuda, hip="7.0", gpus=("AMD Instinct MI300X",))
    assert resolve_device("rocm").torch_device == torch.device("cuda:0")
    with pytest.raises(DeviceError, match="built for device 'rocm'"):
        resolve_device("cuda")


@pytest.mark.parametrize(
    ("name", "build", "variable"),
    [
        ("cuda", {"cuda": "13.0"}, "CUDA_VISIBLE_DEVICES"),
        ("rocm", {"hip": "7.0"}, "ROCR_VISIBLE_DEVICES"),
        ("rocm", {"hip": "7.0"}, "HIP_VISIBLE_DEVICES"),
    ],
)
def test_a_missing_gpu_says_what_was_found_and_how_to_start_a_container(
    pretend_build, monkeypatch, name, build, variable
):
    pretend_build(**build)
    monkeypatch.setenv(variable, "5")
    with pytest.raises(DeviceError, match="torch sees no GPU") as error:
        resolve_device(name)
    message = str(error.value)
    assert f"torch {torch.__version__}" in message
    assert next(iter(build.values())) in message
    assert "0 devices" in message
    assert f"{variable}='5'" in message
    # The last line is a command that a shell takes as it is.
    program, device = message.splitlines()[-1].split()
    assert os.access(Path(__file__).parents[2] / program, os.X_OK)
    assert device == name


def test_a_cpu_build_has_no_gpu(pretend_build):
    pretend_build()
    for name in ("cuda", "rocm"):
        with pytest.raises(DeviceError, match="built for the CPU only"):
            resolve_device(name)


def test_a_missing_torch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceError, match=r"torch cannot be imported .* moeproof\[rocm\]"):
        resolve_device("rocm")


def test_a_gpu_that_torch_has_no_code_for_fails_the_preflight(pretend_build, monkeypatch):
    def no_code(*size, device):
        assert device == torch.device("cuda:0")
        raise RuntimeError("no kernel image is available for execution on the device")

    pretend_build(cuda="13.0", gpus=("Tesla K80",))
    monkeypatch.setattr(torch, "ones", no_code)
    with pytest.raises(DeviceError, match="the GPU cannot compute: no kernel image"):
        preflight("cuda")


def test_triton_is_interpreted_on_the_cpu_alone():
    environ: dict[str, str] = {}
    prepare_environment("cpu", environ)
    assert environ == {"TRITON_INTERPRET": "1"}
    for name in ("cuda", "rocm"):
        environ = {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "1"}
        prepare_environment(name, environ)
        assert environ == {"CUDA_VISIBLE_DEVICES": "1"}


@pytest.mark.parametrize(
    ("name", "build", "properties", "architecture", "runtime"),
    [
        ("cuda", {"cuda": "13.0"}, {"major": 9, "minor": 0}, "sm_90", "CUDA 13.0"),
        ("cuda", {"cuda": "13.0"}, {"major": 12, "minor": 1}, "sm_121", "CUDA 13.0"),
        ("rocm", {"hip": "7.0"}, {"gcnArchName": "gfx942:sramecc+:xnack-"}, "gfx942", "HIP 7.0"),
        ("rocm", {"hip": "7.0"}, {"gcnArchName": "gfx1201"}, "gfx1201", "HIP 7.0"),
    ],
)
def test_a_gpu_is_described(
    pretend_build, monkeypatch, name, build, properties, architecture, runtime
):
    pretend_build(**build, gpus=("some GPU",))
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(name="some GPU", total_memory=192 * 2**30, **properties),
    )
    description = describe(resolve_device(name))
    assert description["name"] == "some GPU"
    assert description["architecture"] == architecture
    assert description["memory"] == "192.0 GiB"
    assert description["runtime"] == runtime


def test_the_driver_is_the_loaded_kernel_module(tmp_path, monkeypatch):
    (tmp_path / "nvidia").mkdir()
    (tmp_path / "nvidia" / "version").write_text("580.159.04\n")
    monkeypatch.setattr(devices, "_KERNEL_MODULES", tmp_path)
    assert devices._driver_version("nvidia") == "nvidia 580.159.04"
    assert devices._driver_version("amdgpu").startswith("amdgpu of unknown version on Linux")


def test_the_cpu_is_described_and_needs_no_waiting():
    device = resolve_device("cpu")
    description = describe(device)
    assert set(description) == {"name", "architecture", "memory", "driver", "runtime"}
    assert all(description.values())
    synchronize(device)


def test_a_gpu_is_waited_for(monkeypatch):
    waited_for = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited_for.append)
    synchronize(Device("rocm"))
    assert waited_for == [torch.device("cuda:0")]


def test_the_exit_status_tells_whether_the_device_is_there(capsys, pretend_build):
    pretend_build()
    assert main(["cpu"]) == 0
    assert capsys.readouterr().out.startswith("cpu: ")
    assert main(["cuda"]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert "ci/containers/run cuda" in captured.err
    assert main([]) == 2


def test_the_preflight_runs_as_a_module():
    command = [sys.executable, "-m", "moeproof.devices", "cpu"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("cpu: ")
    assert len(result.stdout.splitlines()) == 1
