"""Writes moe_dispatch as a repository for Hugging Face's `kernels`: `python hugging_face.py OUT`.

    kernels.get_local_kernel(Path("OUT"))           # or, once uploaded, kernels.get_kernel(...)

The sources are those of the package beside this file, once for each kind of torch that loads them:
they hold no machine code, which makes them what `kernels` calls noarch variants. Layout and
metadata.json: https://huggingface.co/docs/kernels/kernel-requirements.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "moe_dispatch"
BACKENDS = ("cpu", "cuda", "rocm")
"""Of torch. On the CPU the kernels need `TRITON_INTERPRET=1`."""

_VERSION = 0
"""By convention, one whose interface may still change."""


def build(output: Path) -> None:
    """Write the repository; `output` does not exist yet, or is an empty folder.

    Raises FileExistsError, and NotADirectoryError if the folder to hold it does not exist.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"OUT must not exist, or be an empty folder, got {output}")
    if not output.parent.is_dir():
        raise NotADirectoryError(f"OUT must lie in a folder that exists, got {output}")
    sources = {
        path.relative_to(PACKAGE).as_posix(): path.read_bytes()
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        repository = Path(scratch) / "repository"
        for backend in BACKENDS:
            _write_variant(repository / "build" / f"torch-{backend}", backend, sources)
        repository.rename(output)


def _write_variant(folder: Path, backend: str, sources: dict[str, bytes]) -> None:
    for name, content in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    metadata = _metadata(backend, sources)
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def _metadata(backend: str, sources: dict[str, bytes]) -> dict[str, object]:
    digests = {name: hashlib.sha256(content).digest() for name, content in sources.items()}
    # The name under which the module is imported, and so the namespace of its operators: copies
    # of different sources can be loaded side by side.
    unique = hashlib.sha256(b"".join(digests.values())).hexdigest()[:8]
    return {
        "name": "moe-dispatch",
        "id": f"_moe_dispatch_{backend}_{unique}",
        "version": _VERSION,
        "license": "Apache-2.0",
        "python-depends": [],
        "backend": {"type": backend},
        "digest": {
            "algorithm": "sha256",
            "files": {name: base64.b64encode(digest).decode() for name, digest in digests.items()},
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="moe_dispatch for Hugging Face's kernels")
    parser.add_argument("output", metavar="OUT", type=Path, help="a folder that does not exist")
    try:
        build(parser.parse_args().output)
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
