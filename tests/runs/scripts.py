"""The rooms beside the scripts of runs/, from folders that are no packages."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

RUNS = Path(__file__).resolve().parents[2] / "runs"
CARRACING, TAKECOVER = RUNS / "carracing-v3", RUNS / "takecover"


def rooms(*names: str, folder: Path = CARRACING) -> list[ModuleType]:
    """Import them together, and leave none: another game's rooms may have the same names."""
    theirs = {path.stem for path in folder.glob("*.py")}
    kept = {name: sys.modules.pop(name) for name in theirs if name in sys.modules}
    sys.path.insert(0, str(folder))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
        for name in theirs:
            sys.modules.pop(name, None)
        sys.modules.update(kept)
