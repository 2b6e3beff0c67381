"""Entries of ``tile_config.py`` from measured tiles: ``python -m moe_dispatch_bench.tile_table F``.

Reads files of ``moe_dispatch_bench.tune`` and writes, for each architecture and class of rows per
expert in them, the entry as Python source. A tile's cost is its time over the best time of its
product in the same cell (shape and tokens), and of the tiles measured in all cells of the class,
the entry takes the one of least mean cost (geometric). Beside each stands where it came from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from moe_dispatch.sizes import cdiv
from moe_dispatch.tile_config import GemmTile, TileConfig, configs, row_limit
from moe_dispatch_bench.workload import model_shape

_SEARCHED = ("gate_up", "down", "joint_gate_up", "persistent_down")

_Cell = tuple[str, int]
"""Shape and tokens."""


@dataclass(frozen=True)
class Timing:
    """One line of a file: a tile of one product in one cell."""

    arch: str
    device: str
    cell: _Cell
    product: str
    heights: tuple[int, ...]
    tile: GemmTile
    seconds: float

    @property
    def limit(self) -> int:
        """Key of the entry that serves the cell."""
        name, num_tokens = self.cell
        shape = model_shape(name)
        rows = cdiv(num_tokens * shape.top_k, shape.num_experts)
        return row_limit(configs(arch=self.arch, element_size=2), rows)


@dataclass(frozen=True)
class Choice:
    """The tile of least mean cost, its cost in each cell, and that of the table's present one."""

    tile: GemmTile
    seconds: dict[_Cell, float]
    costs: dict[_Cell, float]
    present_costs: dict[_Cell, float]
    tried: int


def read(paths: Iterable[Path]) -> list[Timing]:
    """All lines of the files but those of matrix-vector products, which have no entry."""
    texts = [path.read_text(encoding="utf-8") for path in paths]
    lines = [json.loads(line) for text in texts for line in text.splitlines()]
    return [_timing(line) for line in lines if "group_m" in line]


def _timing(line: dict[str, Any]) -> Timing:
    fields = {name: line[name] for name in GemmTile._fields}
    return Timing(
        arch=line["arch"],
        device=line["device"],
        cell=(line["shape"], line["tokens"]),
        product=line["product"],
        heights=tuple(line["heights"]),
        tile=GemmTile(**{**fields, "num_stages": tuple(line["num_stages"])}),
        seconds=line["seconds"],
    )


def choose(timings: Iterable[Timing], present: GemmTile | None) -> Choice:
    """Of one product's tiles, with the same heights and of the same class.

    Raises:
        ValueError: if no tile was measured in every cell.
    """
    seconds: dict[GemmTile, dict[_Cell, float]] = {}
    for timing in timings:
        seconds.setdefault(timing.tile, {})[timing.cell] = timing.seconds
    cells = dict.fromkeys(cell for times in seconds.values() for cell in times)
    best = {cell: min(times[cell] for times in seconds.values() if cell in times) for cell in cells}
    costs = {
        tile: {cell: times[cell] / best[cell] for cell in cells}
        for tile, times in seconds.items()
        if times.keys() == cells.keys()
    }
    if not costs:
        raise ValueError(f"no tile was measured in each of the cells {list(cells)}")
    chosen = min(costs, key=lambda tile: geometric_mean(costs[tile].values()))
    present_costs = costs.get(present, {}) if present else {}
    return Choice(chosen, seconds[chosen], costs[chosen], present_costs, len(seconds))


def entries(timings: Iterable[Timing]) -> Iterator[str]:
    """Python source of each entry, with a comment a tile."""
    grouped: dict[tuple[str, int], list[Timing]] = {}
    for timing in timings:
        grouped.setdefault((timing.arch, timing.limit), []).append(timing)
    for (arch, limit), of_class in sorted(grouped.items()):
        yield _entry(arch, limit, of_class)


def _entry(arch: str, limit: int, timings: list[Timing]) -> str:
    present = configs(arch=arch, element_size=2)[limit]
    devices = ", ".join(sorted({timing.device for timing in timings}))
    lines = [f"# {arch}, measured on {devices}", f"{limit}: TileConfig(", f"    {present.heights},"]
    for name in TileConfig._fields[1:]:
        heights = (present.block_m,) if name == "persistent_down" else present.heights
        own = [t for t in timings if t.product == name and t.heights == heights]
        old = getattr(present, name)
        if own:
            choice = choose(own, old)
            lines += [f"    # {comment}" for comment in _provenance(choice)]
            lines.append(f"    {name}={choice.tile},")
        elif old is not None:
            why = "not measured" if name in _SEARCHED else "not searched for"
            lines += [f"    # As it was: {why}.", f"    {name}={old},"]
    return "\n".join([*lines, "),"])


def _provenance(choice: Choice) -> Iterator[str]:
    yield f"{choice.tried} tiles; us, and of the cell's best:"
    for cell, cost in choice.costs.items():
        name, num_tokens = cell
        now = choice.present_costs.get(cell)
        beside = "" if now is None else f"; the present tile {now:.3f}"
        yield f"  {name} {num_tokens}: {choice.seconds[cell] * 1e6:.1f}, {cost:.3f}{beside}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="moe_dispatch_bench.tile_table", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    print("\n".join(entries(read(parser.parse_args().files))))


if __name__ == "__main__":
    main()
