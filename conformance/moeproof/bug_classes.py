"""The classes of real bugs that routing patterns and curated routings are made for."""

from __future__ import annotations

BUG_CLASSES = {
    "-1 ids": "an id outside [0, E) is read as an expert, or a real expert is dropped",
    "chunking": "a workspace or a chunk is sized for the common case",
    "duplicate ids": "a token that names an expert twice",
    "empty experts": "a group without tokens: a crash, or memory that is never written",
    "ids >= 256": "experts that do not fit into eight bits",
    "index width": "an offset or an id leaves the range of its integer type",
    "memory": "what no kernel writes is read",
    "normalisation": "weights divided by their sum, or scaled, when they must not be",
    "schedule": "the map from tiles to experts: counts, offsets, order, blocks of a scan",
    "skew": "one expert has far more than its share",
    "tile overhang": "rows past the end of a group are written, or the last one is not",
    "weights": "a routing weight of another slot or row, twice, or on the input",
}
"""Name -> what goes wrong."""
