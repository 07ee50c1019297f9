"""A sample of ``make faults``: the same attacks, few of each."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wmlib.checkpoints import read_json

# The share of a whole run, and what is run so far: two processes, as importing torch takes long.
FEW = {
    0.02: [
        "kills_at_files",
        "kills_at_any_instant",
        "physical",
        "content",
        "full_disk",
        "nan",
        "signals",
        "workers",
        "orphans",
        "two_at_once",
    ],
    0.12: ["findings", "malicious", "command_line"],
}
SAMPLED = {name for names in FEW.values() for name in names}
ELSEWHERE = {"ray_nodes"}  # tests/test_fast_ray.py has a cluster, and kills its nodes


@pytest.fixture(scope="module")
def rows(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The row of each campaign; in processes of their own: they fork, and that wants no threads."""
    report, script = tmp_path_factory.mktemp("faults") / "report.json", "tests/faults/run.py"
    for share, names in FEW.items():
        words = ["--only", *names, "--cases", str(share), "--report", str(report)]
        done = subprocess.run(
            [sys.executable, script, *words], cwd=root, capture_output=True, text=True, check=False
        )
        print(done.stdout + done.stderr)  # what was violated
    return {row["campaign"]: row for row in read_json(report, "rows")["rows"]}


@pytest.mark.parametrize("campaign", sorted(SAMPLED))
def test_nothing_is_lost_and_nothing_is_silent(
    campaign: str, rows: dict[str, dict[str, Any]]
) -> None:
    assert rows[campaign]["cases"] > 0
    assert rows[campaign]["violations"] == 0


def test_every_campaign_is_sampled(root: Path) -> None:
    rows = read_json(root / "tests" / "faults" / "report.json", "rows")["rows"]
    assert {row["campaign"] for row in rows} == SAMPLED | ELSEWHERE
    assert all(row["violations"] == 0 for row in rows)


OPENS = ("read_text(", "write_text(", ".open(", " open(")


def test_every_text_file_names_its_encoding(root: Path) -> None:
    """Windows reads and writes another one where none is named."""
    silent = []
    for path in sorted((root / "wmlib").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            binary = '"rb' in line or '"wb' in line or "safe_open" in line or "archive" in line
            if any(word in line for word in OPENS) and not binary and "utf-8" not in line:
                silent.append(f"{path.name}:{number}: {line.strip()}")
    assert not silent
