"""Entries of the table of tiles, from measurements made up here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from moe_dispatch_bench import tile_table

from moe_dispatch import tile_config
from moe_dispatch.tile_config import GemmTile, configs

PRESENT = configs(arch="sm_90", element_size=2)[8]
WIDE = PRESENT.gate_up._replace(block_n=128)
DEEP = PRESENT.gate_up._replace(block_k=256)


def line(tile: GemmTile, tokens: int, seconds: float, product: str = "gate_up") -> str:
    names = {"arch": "sm_90", "device": "a GPU", "shape": "Qwen3-30B-A3B", "tokens": tokens}
    heights = {"product": product, "heights": PRESENT.heights}
    return json.dumps(names | heights | tile._asdict() | {"seconds": seconds})


def read(path: Path, *lines: str) -> list[tile_table.Timing]:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tile_table.read([path])


def test_least_mean_cost_over_the_cells_of_a_class(tmp_path: Path) -> None:
    timings = read(
        tmp_path / "tune.jsonl",
        # 64 and 128 tokens over 128 experts of which each takes 8: up to 8 rows an expert.
        line(PRESENT.gate_up, 64, 1.2e-4),
        line(PRESENT.gate_up, 128, 2.4e-4),
        line(WIDE, 64, 1.1e-4),
        line(WIDE, 128, 2.1e-4),
        line(DEEP, 64, 1.0e-4),  # the fastest of its cell, but not measured in the other
        json.dumps({"product": "gate_up", "heights": [1], "block_n": 8, "seconds": 1e-6}),
    )
    choice = tile_table.choose(timings, PRESENT.gate_up)
    assert choice.tile == WIDE
    assert choice.tried == 3
    assert list(choice.costs.values()) == pytest.approx([1.1, 1.0])
    assert list(choice.present_costs.values()) == pytest.approx([1.2, 2.4 / 2.1])


def test_entry_is_source_of_the_table(tmp_path: Path) -> None:
    timings = read(tmp_path / "tune.jsonl", line(PRESENT.gate_up, 128, 2e-4), line(WIDE, 128, 1e-4))
    (source,) = tile_table.entries(timings)
    entry = eval("{" + source + "}", vars(tile_config))
    assert entry == {8: PRESENT._replace(gate_up=WIDE)}
    assert "Qwen3-30B-A3B 128: 100.0, 1.000; the present tile 2.000" in source
    assert "# As it was: not measured." in source


def test_other_heights_make_no_entry(tmp_path: Path) -> None:
    lone = line(WIDE, 128, 1e-4).replace(str(list(PRESENT.heights)), "[16]")
    (source,) = tile_table.entries(read(tmp_path / "tune.jsonl", lone))
    assert "block_n=128, block_k=128" not in source


def test_no_tile_measured_in_every_cell(tmp_path: Path) -> None:
    timings = read(tmp_path / "tune.jsonl", line(DEEP, 64, 1e-4), line(WIDE, 128, 1e-4))
    with pytest.raises(ValueError, match=r"'Qwen3-30B-A3B', 64\), \('Qwen3-30B-A3B', 128"):
        tile_table.choose(timings, None)
