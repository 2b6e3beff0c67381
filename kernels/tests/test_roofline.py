"""The benchmark's table and plots, from measurements made up here."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOFLINE = Path(__file__).parents[1] / "benchmarks" / "moe_dispatch_bench" / "roofline.py"


@pytest.fixture(scope="module")
def roofline() -> ModuleType:
    specification = importlib.util.spec_from_file_location("roofline", ROOFLINE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["roofline"] = module
    specification.loader.exec_module(module)
    return module


def line(contender: str, tokens: int, seconds: float, routing: str = "uniform") -> str:
    limits = {"streaming_seconds": 1e-4, "dense_seconds": 1e-6 * tokens}
    work = {"bytes": 5e8, "flops": 2e9 * tokens, "dtype": "bf16"}
    names = {"device": "a GPU", "shape": "Small", "routing": routing, "contender": contender}
    return json.dumps(names | limits | work | {"tokens": tokens, "seconds": seconds})


def test_table_and_plot(roofline: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "measured.jsonl"
    lines = [
        line("moe_dispatch", 400, 5e-4),
        line("other", 1, 3e-4),
        line("moe_dispatch", 1, 2e-4),
        line("moe_dispatch", 1, 1e-4, routing="zipf"),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    measurements = roofline.read(path)
    rows = roofline.table(measurements).splitlines()[2:]
    assert rows == [
        "| Small | uniform | 1 | 0.50 | 0.002 | 100 | 1 | 200 | 0.50 | 1.50 |",
        "| Small | uniform | 400 | 0.50 | 0.800 | 100 | 400 | 500 | 0.80 |  |",
        "| Small | zipf | 1 | 0.50 | 0.002 | 100 | 1 | 100 | 1.00 |  |",
    ]
    roofline.plot("Small", measurements, tmp_path / "small.svg")
    assert "<svg" in (tmp_path / "small.svg").read_text(encoding="utf-8")
