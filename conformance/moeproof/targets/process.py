"""The process that compiles for one target: ``python -m moeproof.targets.process``.

Arguments: the implementation's reference, the target's name, the dtypes with commas between, and
the file that results are written to, each as soon as it is there.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path

import triton

from moeproof.architectures import ARCHITECTURES
from moeproof.implementation import ImplementationError, load_implementation
from moeproof.targets.compilation import NOT_LOADED
from moeproof.targets.facts import Versions
from moeproof.targets.recorder import Recorder


def main(arguments: Sequence[str]) -> int:
    """Compile, and return the exit code."""
    reference, target, dtypes, path = arguments
    # Before the implementation is imported: it may ask Triton where it is.
    recorder = Recorder(ARCHITECTURES[target])
    try:
        implementation = load_implementation(reference)
    except ImplementationError as error:
        print(error)
        return NOT_LOADED
    with Path(path).open("wb") as file:
        pickle.dump(Versions(implementation.version, triton.__version__), file)
        for result in recorder.record(implementation, dtypes.split(",")):
            pickle.dump(result, file)
            file.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
