"""The front door.

V sees, M remembers and foresees, C drives: World Models (Ha & Schmidhuber, 2018). The names stand
in reading order in ``__init__.pyi``; the first that is used brings them in, and torch with them:
so Ctrl-C is heard while the command line loads. What people look at is in ``wmlib.show``.
"""

import ast
import importlib
import os
import runpy
from pathlib import Path
from typing import Any

# On a busy machine, threads that spin while they wait take the cores. Read as torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")

__version__ = "0.1.0"

_LISTED = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")).body
_IMPORTS = [node for node in _LISTED if isinstance(node, ast.ImportFrom)]
_ROOMS = {alias.name: str(node.module) for node in _IMPORTS for alias in node.names}
__all__ = list(_ROOMS)


def __getattr__(name: str) -> Any:
    """A name of the front door, which brings in all others, too; or a room."""
    if name in _ROOMS:
        rooms = {listed: importlib.import_module(room) for listed, room in _ROOMS.items()}
        globals().update({listed: getattr(room, listed) for listed, room in rooms.items()})
        return globals()[name]
    if f"wmlib.{name}" in _ROOMS.values():
        return importlib.import_module(f"wmlib.{name}")
    raise AttributeError(f"module 'wmlib' has no attribute {name!r}")


def command() -> None:
    """The command ``wmlib``: what ``python -m wmlib`` does."""
    runpy.run_module("wmlib.__main__", run_name="__main__", alter_sys=True)
