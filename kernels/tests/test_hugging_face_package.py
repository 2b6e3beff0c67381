"""moe_dispatch as a package of Hugging Face's `kernels`, loaded from where it was built."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BUILDER = Path(__file__).parents[1] / "packaging" / "hugging_face.py"

# The installed moe_dispatch must not be what answers.
LOADED = """
import sys
from pathlib import Path

sys.modules["moe_dispatch"] = None
import torch
from kernels import get_local_kernel
from kernels._rust import Digest, DigestAlgorithm, Metadata

repository = Path(sys.argv[1])
moe = get_local_kernel(repository)
folder = Path(moe.__file__).parent
metadata = Metadata.read_from_file(folder / "metadata.json")
metadata.digest.validate(Digest.hash_variant(DigestAlgorithm.SHA256, folder))
assert folder.parent == repository / "build", folder
assert moe.__name__ == metadata.id, moe.__name__
assert hasattr(getattr(torch.ops, metadata.id), "fused_moe")

torch.manual_seed(0)
layer = moe.FusedMoE(num_experts=8, hidden_size=32, intermediate_size=16, top_k=2)
device = "cpu" if moe.eager.architecture(torch.device("cpu")) == "interpreter" else "cuda"
x = torch.randn(4, 32, device=device)
layer = layer.to(device)
output = layer(x)
ids, weights = moe.route(x @ layer.router_weight.T, 2)
experts = moe.fused_experts(x, layer.gate_up_proj, layer.down_proj, ids, weights)
assert output.abs().max() > 1e-3
torch.testing.assert_close(output, experts, rtol=1e-4, atol=1e-6)
compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
assert torch.equal(compiled(x), output)
print("loaded")
"""


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("hub") / "moe-dispatch"
    built = run(str(BUILDER), str(output))
    assert built.returncode == 0, built.stderr
    return output


def test_it_loads_from_where_it_was_built(repository: Path) -> None:
    loaded = run("-c", LOADED, str(repository))
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.strip() == "loaded"


def test_each_torch_finds_its_variant(repository: Path) -> None:
    variants = sorted(path.name for path in (repository / "build").iterdir())
    assert variants == ["torch-cpu", "torch-cuda", "torch-rocm"]
    for variant in variants:
        metadata = json.loads((repository / "build" / variant / "metadata.json").read_text())
        assert metadata["backend"] == {"type": variant.removeprefix("torch-")}


def test_nothing_is_overwritten(repository: Path) -> None:
    before = sorted(repository.rglob("*"))
    again = run(str(BUILDER), str(repository))
    assert again.returncode == 2
    assert again.stderr.startswith("OUT must not exist, or be an empty folder, got ")
    assert sorted(repository.rglob("*")) == before
    nowhere = run(str(BUILDER), str(repository / "no" / "such"))
    assert nowhere.returncode == 2
    assert nowhere.stderr.startswith("OUT must lie in a folder that exists")
