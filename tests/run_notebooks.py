"""Run chapters in place, and write down how long they take.

    python tests/run_notebooks.py          # every chapter
    python tests/run_notebooks.py 03 07    # these

Outputs and widget state are saved in the notebook. Seconds, machine and versions go into
book/run_times.json, which the status page is made from, and the chapter's first cell is told.
"""

import json
import math
import os
import platform
import re
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
TIMES = ROOT / "book" / "run_times.json"
TAKES = re.compile(r"(?<=\*\*It takes\*\* about )\d+(?= seconds to run on two CPU cores)")
PACKAGES = ("torch", "gymnasium", "numpy", "cma", "matplotlib", "ipywidgets", "anywidget",
            "ipykernel", "jupyterlab", "jupyter-book", "nbval")  # fmt: skip


def execute(path: Path) -> dict[str, float]:
    """Run a notebook in its own folder and save it; the seconds that passed and were computed."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day: they would differ in every run
    place = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(
        notebook, timeout=600, startup_timeout=600, resources=place, record_timing=False
    )
    start, before = time.monotonic(), computed()
    client.execute()
    seconds = {"wall": time.monotonic() - start, "cpu": computed() - before}
    nbformat.write(notebook, path)
    return {name: round(value, 1) for name, value in seconds.items()}


def computed() -> float:
    """CPU seconds of the kernels that have ended so far, and of the processes they started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def takes(wall: float, cpu: float) -> int:
    """What a reader is told, rounded up to five seconds.

    A busy machine stretches the wall time, and a second thread the CPU time. The smaller of the
    two is what a chapter takes with two cores of its own.
    """
    return 5 * math.ceil(min(wall, cpu) / 5)


def tell(path: Path, seconds: int) -> None:
    """Set the number in a chapter's "It takes about … seconds"."""
    notebook = nbformat.read(path, as_version=4)
    first = notebook.cells[0]
    first.source, found = TAKES.subn(str(seconds), first.source)
    if not found:
        sys.exit(
            f"{path}: its first cell says nothing of its run time; write "
            '"**It takes** about 30 seconds to run on two CPU cores" there, the number will be set.'
        )
    nbformat.write(notebook, path)


def surroundings() -> dict[str, Any]:
    """The machine and the versions that a time belongs to."""
    processor = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {"python": platform.python_version()} | {p: version(p) for p in PACKAGES},
    }


def chapters(numbers: list[str]) -> list[Path]:
    """Every chapter, or those whose names start so."""
    found = [path for n in numbers or [""] for path in sorted(FOLDER.glob(f"{n}*.ipynb"))]
    if len(found) < len(numbers):
        there = " ".join(path.stem[:2] for path in sorted(FOLDER.glob("*.ipynb")))
        sys.exit(f"No chapter for one of {' '.join(numbers)}; there are {there}.")
    return found


def main(numbers: list[str]) -> None:
    for path in chapters(numbers):
        seconds = execute(path)
        entry = {"takes": takes(**seconds), **seconds} | surroundings()
        tell(path, entry["takes"])
        times = json.loads(TIMES.read_text()) if TIMES.exists() else {}
        times[path.stem] = entry
        there = {name: times[name] for name in sorted(times) if (FOLDER / f"{name}.ipynb").exists()}
        TIMES.write_text(json.dumps(there, indent=1) + "\n")
        print(f"{path.stem}: {seconds['wall']} s, {seconds['cpu']} s of CPU", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
