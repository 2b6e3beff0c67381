"""``ci/containers/run`` with engines that pretend, and images that are virtual environments."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import venv
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "ci" / "containers"

# Records each call. To `run`, it runs the command where the image's Python is first on the path,
# with the volumes' paths taken back to the host's.
ENGINE = """\
#!{python}
import json, os, subprocess, sys
from pathlib import Path

words = sys.argv[1:]
with Path({calls!r}).open("a") as calls:
    print(json.dumps([Path(sys.argv[0]).name, *words]), file=calls)
code = int(os.environ.get("ENGINE_FAILS_TO_" + words[0].upper(), "0"))
if code or words[0] != "run" or not {runs}:
    sys.exit(code)
valued = {{"--volume", "--workdir", "--env", "--user", "--group-add", "--device", "--gpus",
          "--shm-size", "--security-opt", "--userns"}}
given, rest = [], iter(words[1:])
for word in rest:
    if not word.startswith("--"):
        break
    given.append((word, next(rest) if word in valued else None))
image, command = word, list(rest)
volumes = [value.split(":")[:2] for flag, value in given if flag == "--volume"]

def on_host(text):
    for host, inside in sorted(volumes, key=lambda pair: -len(pair[1])):
        if text == inside or text.startswith(inside + "/"):
            return host + text[len(inside):]
    return text

environment = {{name: os.environ[name] for name in ("PIP_NO_INDEX", "PIP_CONFIG_FILE")}}
environment["PATH"] = {image_bin!r} + ":/usr/bin:/bin"
for flag, value in given:
    if flag == "--env":
        name, _, setting = value.partition("=")
        environment[name] = on_host(setting) if "=" in value else os.environ[name]
workdir = dict(given)["--workdir"]
sys.exit(subprocess.run(command, cwd=on_host(workdir), env=environment).returncode)
"""
TOX_INI = """
[tox]
no_package = true

[testenv:{cuda,rocm}]
runner = virtualenv
host_packages =
    torch
    triton
deps =
    torch
    triton
pass_env = *
commands =
    python -c "import torch; print('torch is', torch.__file__)"
    python -c "import triton; print('triton is', triton.__file__)"
    python -c "import os; print('kernels go to', os.environ['TRITON_CACHE_DIR'])"
    python -c "import sys; print('got', sys.argv[1:])" {posargs}
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image whose Python is a virtual environment with torch and triton that are mere markers.

    tox is there too, as in our images.
    """
    place = tmp_path_factory.mktemp("image") / "opt" / "venv"
    venv.create(place, with_pip=False)
    (packages,) = place.glob("lib/python*/site-packages")
    for name in ("torch", "triton"):
        (packages / name).mkdir()
        (packages / name / "__init__.py").touch()
        metadata = packages / f"{name}-9.9.9.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9.9\n")
    # The real packages of this test's Python come after the image's own.
    (packages / "tox.pth").write_text("\n".join(path for path in sys.path if "-packages" in path))
    return place


@pytest.fixture
def host(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine with a checkout, some engines and some device nodes."""
    checkout = tmp_path / "checkout"
    shutil.copytree(CONTAINERS, checkout / "ci" / "containers")
    shutil.copy(ROOT / "toxfile.py", checkout)
    (checkout / "tox.ini").write_text(TOX_INI)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("XDG_CACHE_HOME", *runpy.run_path(str(CONTAINERS / "run"))["FORWARDED"]):
        monkeypatch.delenv(name, raising=False)
    return Host(tmp_path, image, monkeypatch)


class Host:
    """The pretended machine."""

    def __init__(self, place: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.checkout = place / "checkout"
        self.dev = place / "dev"
        self._image = image
        self._calls = place / "calls"
        (place / "bin").mkdir()
        (self.dev / "dri").mkdir(parents=True)
        monkeypatch.setenv("PATH", str(place / "bin"))

    def install(self, engine: str, *, runs: bool = False) -> None:
        """One that records its calls, and perhaps runs what it is given."""
        path = self.place / "bin" / engine
        path.write_text(
            ENGINE.format(
                python=sys.executable,
                calls=str(self._calls),
                image_bin=str(self._image / "bin"),
                runs=runs,
            )
        )
        path.chmod(0o755)

    def plug_in(self, *nodes: str) -> None:
        for node in nodes:
            (self.dev / node).touch()

    def run(self, *arguments: str) -> int:
        """The script of the pretended checkout; only where devices are is told by the test."""
        loader = SourceFileLoader(
            "containers_run", str(self.checkout / "ci" / "containers" / "run")
        )
        spec = spec_from_loader(loader.name, loader)
        assert spec is not None
        script = module_from_spec(spec)
        loader.exec_module(script)
        code: int = script.main(arguments, dev=self.dev)
        return code

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self._calls.read_text().splitlines()]

    def flags(self, name: str) -> list[str]:
        """The values that the container was started with for this flag."""
        *_, call = self.calls
        return [value for flag, value in pairwise(call) if flag == name]


@pytest.mark.parametrize("device", ["cuda", "rocm"])
def test_torch_and_triton_of_an_image_whose_python_is_a_venv_are_used(
    host: Host, image: Path, device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """pip has no index to fetch others from."""
    host.install("docker", runs=True)
    host.plug_in("nvidiactl", "kfd")
    code = host.run(device, "-n", "14")
    output = capfd.readouterr().out
    assert code == 0, output
    (packages,) = image.glob("lib/python*/site-packages")
    assert f"torch is {packages / 'torch' / '__init__.py'}" in output
    assert f"triton is {packages / 'triton' / '__init__.py'}" in output
    assert "got ['-n', '14']" in output
    cache = host.place / "home" / ".cache" / "moeproof" / device
    assert f"kernels go to {cache / 'triton'}" in output
    assert (cache / "tox" / device).is_dir()
    assert not (host.checkout / ".tox").exists()


def test_without_the_hook_there_would_be_no_torch(
    host: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    """So the test above can fail."""
    host.install("docker", runs=True)
    host.plug_in("nvidiactl")
    ini = host.checkout / "tox.ini"
    ini.write_text(ini.read_text().replace("host_packages =\n    torch\n    triton\n", ""))
    assert host.run("cuda") == 1
    assert "No matching distribution found for torch" in capfd.readouterr().err


def test_the_projects_environments_leave_torch_and_triton_to_the_image() -> None:
    command = [sys.executable, "-m", "tox", "config", "-e", "cuda,rocm"]
    result = subprocess.run(
        [*command, "-k", "host_packages", "deps", "extras"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    text = re.sub(r"(?m)^# ?.*$", "", result.stdout)
    assert text.count("host_packages =\n  torch\n  triton\n") == 2
    assert re.findall(r"^(?:deps|extras) =[ ]*(.*)$", text, re.MULTILINE) == ["", "", "", ""]


def test_docker_gets_nvidias_gpus_and_the_callers_user(host: Host) -> None:
    host.install("podman")
    host.install("docker")
    host.plug_in("nvidiactl")
    assert host.run("cuda") == 0
    build, run = host.calls
    assert build[:2] == ["docker", "build"]
    assert build[-2].endswith("/cuda.Containerfile")
    assert run[:2] == ["docker", "run"]
    assert host.flags("--gpus") == ["all"]
    assert host.flags("--device") == []
    assert host.flags("--shm-size") == ["16g"]
    assert host.flags("--user") == [f"{os.getuid()}:{os.getgid()}"]
    volumes = dict(reversed(value.split(":", 1)) for value in host.flags("--volume"))
    assert volumes["/moeproof:ro"] == str(host.checkout)
    assert volumes["/moeproof/reports"] == str(host.checkout / "reports")
    assert volumes["/cache"] == str(host.place / "home" / ".cache" / "moeproof" / "cuda")
    assert all(Path(folder).stat().st_uid == os.getuid() for folder in volumes.values())
    assert "TRITON_CACHE_DIR=/cache/triton" in host.flags("--env")


def test_podman_gets_nvidias_gpus_by_cdi_and_maps_the_user(host: Host) -> None:
    host.install("podman")
    host.plug_in("nvidiactl")
    assert host.run("cuda") == 0
    assert host.flags("--device") == ["nvidia.com/gpu=all"]
    assert host.flags("--gpus") == []
    assert host.flags("--userns") == ["keep-id"]


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_amds_gpus_come_with_the_groups_of_their_nodes(host: Host, engine: str) -> None:
    host.install("docker")
    host.install("podman")
    host.plug_in("kfd", "dri/renderD128")
    assert host.run("--engine", engine, "rocm") == 0
    assert host.calls[0][0] == engine
    assert host.flags("--device") == [str(host.dev / "kfd"), str(host.dev / "dri")]
    group = str((host.dev / "kfd").stat().st_gid)
    assert host.flags("--group-add") == [group if engine == "docker" else "keep-groups"]
    assert "seccomp=unconfined" in host.flags("--security-opt")


def test_a_command_of_moeproof_is_run_in_the_environment(
    host: Host, image: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    host.install("docker", runs=True)
    host.plug_in("nvidiactl")
    ini = host.checkout / "tox.ini"
    # The program stands in for the package, which is not installed here.
    program = host.checkout / "moeproof"
    program.write_text(
        '#!/bin/sh\nexec python -c "import sys, torch; print(sys.argv, torch)" "$@"\n'
    )
    program.chmod(0o755)
    settings = f"set_env = PATH={{env:PATH}}:{host.checkout}\nallowlist_externals = moeproof\n"
    ini.write_text(f"{ini.read_text()}\n{settings}")
    assert host.run("cuda", "moeproof", "list", "a b") == 0
    output = capfd.readouterr().out
    (packages,) = image.glob("lib/python*/site-packages")
    assert f"['-c', 'list', 'a b'] <module 'torch' from '{packages}" in output


def test_what_the_suite_needs_from_the_environment_is_forwarded(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.install("docker")
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("SECRET_TOKEN", "1")
    host.plug_in("kfd")
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "2,3")
    assert host.run("rocm") == 0
    names = [value for value in host.flags("--env") if "=" not in value]
    assert names == ["CI", "HIP_VISIBLE_DEVICES"]


@pytest.mark.parametrize(
    ("nodes", "arguments", "said"),
    [
        ([], ["cuda"], "device 'cuda': .*/nvidiactl is missing; it has no other GPU"),
        (["kfd"], ["cuda"], "this machine has a GPU for 'rocm'"),
        (["nvidiactl"], ["rocm"], "device 'rocm': .*/kfd is missing; .* a GPU for 'cuda'"),
        (["nvidiactl"], ["cuda"], "no container engine on PATH: docker or podman is needed"),
        (["kfd"], ["--engine", "podman", "rocm"], "no container engine on PATH: podman is needed"),
    ],
)
def test_what_is_missing_is_said(
    host: Host,
    nodes: list[str],
    arguments: list[str],
    said: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    host.plug_in(*nodes)
    assert host.run(*arguments) == 2
    assert re.search(said, capfd.readouterr().err)


@pytest.mark.parametrize(
    ("step", "code", "said"),
    [
        ("BUILD", 1, "the image cannot be built: docker build"),
        ("RUN", 125, "docker could not run the container \\(exit code 125\\)"),
    ],
)
def test_an_engine_that_fails_is_an_error_of_use(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    step: str,
    code: int,
    said: str,
) -> None:
    host.install("docker")
    host.plug_in("nvidiactl")
    monkeypatch.setenv(f"ENGINE_FAILS_TO_{step}", str(code))
    assert host.run("cuda") == 2
    assert re.search(said, capfd.readouterr().err)


def test_unknown_devices_are_refused() -> None:
    result = subprocess.run(
        [sys.executable, CONTAINERS / "run", "rcom"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "cpu" in result.stderr
    assert "rocm" in result.stderr


@pytest.mark.parametrize("device", ["cpu", "cuda", "rocm"])
def test_images_are_pinned_by_tag_and_digest(device: str) -> None:
    text = (CONTAINERS / f"{device}.Containerfile").read_text()
    (base,) = re.findall(r"^FROM (\S+)$", text, re.MULTILINE)
    assert re.fullmatch(r"docker\.io/[\w/]+:[\w.-]+@sha256:[0-9a-f]{64}", base)
    assert "tox>=4.50" in text
