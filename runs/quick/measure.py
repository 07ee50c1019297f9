"""The first rung of the README's ladder: one command, from nothing, and how long it took.

``python runs/quick/measure.py`` runs ``wmlib --env CarRacing-v3 --preset quick`` in a folder of its
own, keeps its report here with the minutes that passed, and prints the README's line. Leave the
machine alone meanwhile; killed, it begins anew.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from wmlib.__main__ import main as wmlib
from wmlib.checkpoints import read_json, write_json

COMMAND = ["--env", "CarRacing-v3", "--preset", "quick"]
REPORT = Path(__file__).with_name("report.json")


def measure(command: list[str], report: Path) -> dict[str, Any]:
    """Run the command from nothing, and write its report with ``command`` and ``minutes``."""
    with tempfile.TemporaryDirectory(prefix="quick-") as folder:
        places = ["--data_dir", f"{folder}/data", "--logdir", f"{folder}/results"]
        began = time.perf_counter()
        if status := wmlib([*command, *places]):
            raise SystemExit(status)
        minutes = (time.perf_counter() - began) / 60
        found = read_json(Path(folder) / "results" / "report.json", "rows")
    found = {"command": " ".join(["wmlib", *command]), "minutes": round(minutes, 2)} | found
    write_json(report, found)
    return found


def line(found: dict[str, Any]) -> str:
    """The row of the README's ladder."""
    row = next(row for row in found["rows"] if row["agent"] == "agent")
    score = f"{row['mean']:.0f} ± {row['ci95']:.0f} | {row['episodes']} fresh"
    return f"| {found['minutes']:.0f} minutes in all: `{found['command']}` | {score} |"


if __name__ == "__main__":
    print(line(measure(COMMAND, REPORT)))
