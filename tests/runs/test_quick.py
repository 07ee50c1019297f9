"""The first rung of the README's ladder: measured from nothing, and told as it was measured."""

from pathlib import Path

import pytest
from carracing import FOLDER, rooms

from wmlib.checkpoints import read_json

(quick,) = rooms("measure", folder=FOLDER.with_name("quick"))


def test_a_run_from_nothing_leaves_a_report_with_its_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(quick.tempfile, "tempdir", None)
    path = tmp_path / "report.json"
    command = ["--env", "counting_env:Counting-v0", "--preset", "smoke", "--device", "cpu"]
    found = quick.measure(command, path)
    assert read_json(path) == found
    assert found["command"] == "wmlib " + " ".join(command)
    assert 0 < found["minutes"] < 10
    assert [row["agent"] for row in found["rows"]] == ["random", "agent"]
    assert not list(tmp_path.glob("quick-*"))  # what it played and trained is gone


def test_what_fails_leaves_no_report(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        quick.measure(["--env", "NoSuchWorld-v7"], tmp_path / "report.json")
    assert stop.value.code == 1
    assert not list(tmp_path.iterdir())


def test_the_readme_has_the_row_that_was_measured(root: Path) -> None:
    rows = [{"agent": "random", "mean": -1.0}]
    rows.append({"agent": "agent", "mean": 512.4, "ci95": 61.2, "episodes": 10})
    told = quick.line({"minutes": 9.6, "command": "wmlib --x", "rows": rows})
    assert told == "| 10 minutes in all: `wmlib --x` | 512 ± 61 | 10 fresh |"
    readme = (root / "README.md").read_text(encoding="utf-8")
    measured = [row for row in readme.splitlines() if "minutes in all" in row]
    report = root / "runs" / "quick" / "report.json"
    assert measured == ([quick.line(read_json(report))] if report.exists() else [])
