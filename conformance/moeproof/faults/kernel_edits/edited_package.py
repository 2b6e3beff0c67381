"""A package's copy with one piece of its source replaced, loaded beside the package itself."""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


class EditError(ValueError):
    """The source does not hold the text to be replaced exactly once."""


@dataclass(frozen=True)
class SourceEdit:
    """One replacement in one module of a package.

    Attributes:
        module: the module's name within the package, such as ``"gate_up"``.
        find: text that the module's source holds exactly once.
        replacement: what stands there instead.
    """

    module: str
    find: str
    replacement: str

    def apply(self, source: str) -> str:
        """The edited source.

        Raises:
            EditError: the text occurs not once but never, or several times.
        """
        count = source.count(self.find)
        if count != 1:
            raise EditError(f"{self.module}.py holds {count} times, not once: {self.find!r}")
        return source.replace(self.find, self.replacement)


def source_of(package: str, module: str) -> str:
    """The source of a module of an installed package, which is not imported."""
    return (_directory(package) / f"{module}.py").read_text(encoding="utf-8")


def load_edited(package: str, edit: SourceEdit, *, name: str) -> ModuleType:
    """The package under another name, with one module edited.

    Its other modules are loaded from the package's own files. They must import each other
    relatively, so that they find the edited module and not the original.

    Args:
        package: an installed package; the original may be loaded as well.
        edit: what is replaced.
        name: of the copy; no loaded module may have it.

    Raises:
        EditError: the source does not hold the text to be replaced exactly once.
    """
    if name in sys.modules:
        raise ValueError(f"a module {name!r} is loaded already")
    directory = _directory(package)
    specification = importlib.util.spec_from_file_location(
        name, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    assert specification is not None
    assert specification.loader is not None
    source = edit.apply(source_of(package, edit.module))
    copy = importlib.util.module_from_spec(specification)
    sys.modules[name] = copy
    _execute(f"{name}.{edit.module}", source, package=name)
    specification.loader.exec_module(copy)
    return copy


def _execute(name: str, source: str, *, package: str) -> None:
    """Make a module from source text. Triton reads a kernel's source by way of ``linecache``."""
    filename = f"<{name}>"
    # Without a time of change, as here, linecache never looks for the file again.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    module = ModuleType(name)
    module.__file__ = filename
    module.__package__ = package
    sys.modules[name] = module
    exec(compile(source, filename, "exec"), module.__dict__)


def _directory(package: str) -> Path:
    specification = importlib.util.find_spec(package)
    if specification is None or not specification.submodule_search_locations:
        raise ModuleNotFoundError(f"no package named {package!r}", name=package)
    return Path(specification.submodule_search_locations[0])
