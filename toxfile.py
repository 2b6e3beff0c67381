"""A tox plugin of this project alone: environments that use packages of the machine's own Python.

GPU containers bring torch and triton, built for their drivers; installing others over them would
break them. ``system_site_packages`` does not help where the container's Python is itself a virtual
environment, because virtualenv links to the interpreter beneath it. So an environment lists
``host_packages``, and before anything is installed a ``.pth`` file points it at the folders which
hold them for the Python that runs tox. pip then finds them installed, and leaves them alone.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tox.config.sets import EnvConfigSet
from tox.plugin import impl
from tox.session.state import State
from tox.tox_env.api import ToxEnv


@impl
def tox_add_env_config(env_conf: EnvConfigSet, state: State) -> None:
    env_conf.add_config(
        "host_packages",
        of_type=list[str],
        default=[],
        desc="packages taken from the Python that runs tox, where it has them",
    )


@impl
def tox_on_install(tox_env: ToxEnv, arguments: Any, section: str, of_type: str) -> None:
    packages = tox_env.conf["host_packages"]
    if packages:
        folders = {folder for folder in map(_folder_that_holds, packages) if folder is not None}
        pth = Path(tox_env.conf["env_site_packages_dir"], "host_packages.pth")
        pth.write_text("".join(f"{folder}\n" for folder in sorted(folders)))


def _folder_that_holds(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parents[1] if spec and spec.origin else None
