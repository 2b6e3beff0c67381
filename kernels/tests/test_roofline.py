"""The benchmark's table and plots, from measurements made up here."""

from __future__ import annotations

import json
from pathlib import Path

from moe_dispatch_bench import roofline


def line(contender: str, tokens: int, seconds: float, routing: str = "uniform") -> str:
    limits = {"streaming_seconds": 1e-4, "read_seconds": 1.1e-4, "dense_seconds": 1e-6 * tokens}
    work = {"bytes": 5e8, "flops": 2e9 * tokens, "dtype": "bf16"}
    names = {"device": "a GPU", "shape": "Small", "routing": routing, "contender": contender}
    return json.dumps(names | limits | work | {"tokens": tokens, "seconds": seconds})


def test_table_and_plot(tmp_path: Path) -> None:
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
        "| Small | uniform | 1 | 0.50 | 0.002 | 100 | 110 | 1 | 200 | 0.50 | 1.50 |",
        "| Small | uniform | 400 | 0.50 | 0.800 | 100 | 110 | 400 | 500 | 0.80 |  |",
        "| Small | zipf | 1 | 0.50 | 0.002 | 100 | 110 | 1 | 100 | 1.00 |  |",
    ]
    roofline.plot("Small", measurements, tmp_path / "small.svg")
    assert "<svg" in (tmp_path / "small.svg").read_text(encoding="utf-8")
