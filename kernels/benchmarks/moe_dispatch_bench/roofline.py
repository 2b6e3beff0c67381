"""Measurements against the machine's limits: ``python -m moe_dispatch_bench.roofline FILE``.

Reads a file of ``moe_dispatch_bench`` and writes, beside it, a table as Markdown and a plot a shape
as SVG. A layer must move the bytes of the experts that are active, and multiply 6 T K H I times:
whichever takes longer at the measured rates is the time predicted. Beside it stands what one launch
takes that only reads as many bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SUBJECT = "moe_dispatch"


@dataclass(frozen=True)
class Measurement:
    """One line of the file; times in seconds."""

    device: str
    shape: str
    tokens: int
    routing: str
    contender: str
    seconds: float
    streaming_seconds: float
    read_seconds: float
    dense_seconds: float
    bytes: float
    flops: float

    @property
    def predicted_seconds(self) -> float:
        """The longer of reading the weights once and of dense products of as many FLOPs."""
        return max(self.streaming_seconds, self.dense_seconds)


def read(path: Path) -> list[Measurement]:
    """All measurements of a file, in the order of shape, routing and tokens."""
    fields = Measurement.__dataclass_fields__
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    found = [Measurement(**{name: line[name] for name in fields}) for line in lines]
    return sorted(
        found, key=lambda row: (row.shape, row.routing != "uniform", row.routing, row.tokens)
    )


def table(measurements: Iterable[Measurement]) -> str:
    """A Markdown table of the subject's times beside the limits and beside the others'."""
    cells = {(row.shape, row.routing, row.tokens, row.contender): row for row in measurements}
    others = sorted({name for *_, name in cells} - {SUBJECT})
    lines = [
        "| shape | routing | tokens | GB | TFLOP | streaming, us | one read, us | dense, us "
        "| moe_dispatch, us | of the longer "
        f"| {' | '.join(f'{name}, times' for name in others)} |",
        f"|---|---|--:|--:|--:|--:|--:|--:|--:|--:|{'--:|' * len(others)}",
    ]
    for (shape, routing, tokens, contender), row in cells.items():
        if contender != SUBJECT:
            continue
        beside = [cells.get((shape, routing, tokens, name)) for name in others]
        ratios = [f"{other.seconds / row.seconds:.2f}" if other else "" for other in beside]
        lines.append(
            f"| {shape} | {routing} | {tokens} | {row.bytes / 1e9:.2f} | {row.flops / 1e12:.3f} "
            f"| {row.streaming_seconds * 1e6:.0f} | {row.read_seconds * 1e6:.0f} "
            f"| {row.dense_seconds * 1e6:.0f} | {row.seconds * 1e6:.0f} "
            f"| {row.predicted_seconds / row.seconds:.2f} "
            f"| {' | '.join(ratios)} |"
        )
    return "\n".join(lines) + "\n"


def plot(shape: str, measurements: Iterable[Measurement], path: Path) -> None:
    """Latency against tokens under uniform routing, with both limits, as SVG."""
    from matplotlib.figure import Figure

    rows = [row for row in measurements if row.shape == shape and row.routing == "uniform"]
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    axes.set_title(f"{shape}, {rows[0].device}")
    axes.set_xlabel("tokens")
    axes.set_ylabel("microseconds")
    for name in sorted({row.contender for row in rows}, key=lambda name: (name != SUBJECT, name)):
        own = [row for row in rows if row.contender == name]
        axes.plot([row.tokens for row in own], [row.seconds * 1e6 for row in own], "o-", label=name)
    limits = [row for row in rows if row.contender == SUBJECT]
    tokens = [row.tokens for row in limits]
    streaming = [row.streaming_seconds * 1e6 for row in limits]
    reading = [row.read_seconds * 1e6 for row in limits]
    dense = [row.dense_seconds * 1e6 for row in limits]
    axes.plot(tokens, streaming, "k--", label="the active experts' bytes at full rate")
    axes.plot(tokens, reading, "k-.", label="one launch that only reads as many")
    axes.plot(tokens, dense, "k:", label="dense products of as many FLOPs")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="moe_dispatch_bench.roofline", description=__doc__)
    parser.add_argument("measurements", type=Path, metavar="FILE")
    path: Path = parser.parse_args().measurements
    measurements = read(path)
    path.with_suffix(".md").write_text(table(measurements), encoding="utf-8")
    shapes = sorted({row.shape for row in measurements})
    for shape in shapes:
        plot(shape, measurements, path.with_name(f"{path.stem}-{shape}.svg"))
    print(f"{path.with_suffix('.md')} and {len(shapes)} plots")


if __name__ == "__main__":
    main()
