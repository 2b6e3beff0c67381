"""The schema of a report's lines, compiled once."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

KINDS = ("header", "verdict", "footer")


def violation(line: object, kind: str) -> str | None:
    """How a decoded line departs from the schema of its kind, or None if it fits."""
    validator = _validators()[kind]
    if validator.is_valid(line):
        return None
    error = best_match(validator.iter_errors(line))
    place = "".join(f"[{part!r}]" for part in error.absolute_path)
    message = error.message if len(error.message) <= 300 else f"{error.message[:300]}..."
    return f"{place}: {message}" if place else message


@cache
def _validators() -> dict[str, Draft202012Validator]:
    schema: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    # One validator a kind: a mistake in a verdict is named as such, not as "none of three kinds".
    return {
        kind: Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": schema["$defs"]})
        for kind in KINDS
    }
