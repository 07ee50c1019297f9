"""A sample of ``make faults``: the same attacks, few of each."""

import subprocess
import sys
from pathlib import Path

import pytest

from wmlib.checkpoints import read_json

FEW = {
    "kills_at_files": 0.03,
    "kills_at_any_instant": 0.03,
    "malicious": 0.1,
    "nan": 0.1,
    "full_disk": 0.05,
    "signals": 0.08,
    "workers": 0.05,
    "orphans": 0.1,
    "two_at_once": 0.05,
    "command_line": 0.4,
    "content": 0.02,
    "physical": 0.02,
    "findings": 1,
}
ELSEWHERE = {"ray_nodes"}  # tests/test_fast_ray.py has a cluster, and kills its nodes


@pytest.mark.parametrize("campaign", FEW)
def test_nothing_is_lost_and_nothing_is_silent(campaign: str, root: Path, tmp_path: Path) -> None:
    """In a process of its own: the campaigns fork, and that wants no threads."""
    report = tmp_path / "report.json"
    words = ["--only", campaign, "--cases", str(FEW[campaign]), "--report", str(report)]
    done = subprocess.run(
        [sys.executable, root / "tests" / "faults" / "run.py", *words],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = read_json(report, "rows")["rows"]
    assert row["cases"] > 0
    assert row["violations"] == 0


def test_every_campaign_is_sampled(root: Path) -> None:
    rows = read_json(root / "tests" / "faults" / "report.json", "rows")["rows"]
    assert {row["campaign"] for row in rows} == set(FEW) | ELSEWHERE
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
