"""Time moe_dispatch: ``python -m moe_dispatch_bench --shapes Mixtral-8x7B --tokens 1 32 2048``.

Each line of the output file is one contender in one cell: a layer, a number of tokens, a routing.
The floors and all contenders of a cell are measured in turns, and its lines are written together. A
run that is cut loses no cell that was complete; started again on the same file it goes on where it
stopped, and measures in each cell what is missing, beside floors of its own.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from moe_dispatch_bench.cell import DTYPES, measure_cell
from moe_dispatch_bench.contenders import CONTENDERS
from moe_dispatch_bench.floors import Reader
from moe_dispatch_bench.workload import ROUTINGS, make_layer, model_shape


def main() -> None:
    options = _options()
    done = _read(options.output)
    reader = Reader()
    device = torch.cuda.get_device_name()
    print(f"{device}: reads {reader.bandwidth / 1e12:.2f} TB/s")
    for shape_name in options.shapes:
        layer = None
        for tokens in options.tokens:
            for routing in options.routing:
                key = {
                    "device": device,
                    "shape": shape_name,
                    "tokens": tokens,
                    "routing": routing,
                    "dtype": options.dtype,
                }
                missing = [name for name in options.contenders if (*key.values(), name) not in done]
                if not missing:
                    continue
                if layer is None:
                    layer = make_layer(model_shape(shape_name), DTYPES[options.dtype])
                measured = measure_cell(
                    layer, reader, tokens=tokens, routing=routing, contenders=missing
                )
                rows = [key | row for row in measured]
                with options.output.open("a", encoding="utf-8") as file:
                    file.write("".join(json.dumps(row) + "\n" for row in rows))
                print("\n".join(map(_line, rows)), flush=True)
        del layer
        torch.cuda.empty_cache()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="moe_dispatch_bench", description=__doc__)
    parser.add_argument("--shapes", nargs="+", default=["Mixtral-8x7B", "Qwen3-30B-A3B"])
    parser.add_argument("--tokens", nargs="+", type=int, default=[1, 32, 128, 512, 2048, 8192])
    parser.add_argument("--routing", nargs="+", default=["uniform"], choices=ROUTINGS)
    parser.add_argument("--dtype", default="bf16", choices=DTYPES)
    parser.add_argument(
        "--contenders",
        nargs="+",
        default=["moe_dispatch", "grouped_mm", "loop"],
        help=f"{', '.join(CONTENDERS)}, or an adapter of the conformance suite",
    )
    parser.add_argument("--output", type=Path, default=Path("bench.jsonl"))
    return parser.parse_args()


def _read(path: Path) -> set[tuple[Any, ...]]:
    if not path.is_file():
        return set()
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    keys = ("device", "shape", "tokens", "routing", "dtype", "contender")
    return {tuple(row[key] for key in keys) for row in rows}


def _line(row: dict[str, Any]) -> str:
    floor = max(row["streaming_seconds"], row["dense_seconds"])
    host = f", host {row['host_seconds'] * 1e6:.0f} us" if row["host_seconds"] else ""
    if row["layer_host_seconds"]:
        host += f" (whole layer {row['layer_host_seconds'] * 1e6:.0f} us)"
    return (
        f"{row['shape']:>16} {row['tokens']:>5} tokens {row['routing']:>12} "
        f"{row['contender']:>12} {row['seconds'] * 1e6:9.1f} us; of streaming "
        f"{row['streaming_seconds'] / row['seconds']:.2f}, of one read "
        f"{row['read_seconds'] / row['seconds']:.2f}, of dense "
        f"{row['dense_seconds'] / row['seconds']:.2f}, of the floor {floor / row['seconds']:.2f}"
        f"{host}"
    )


if __name__ == "__main__":
    main()
