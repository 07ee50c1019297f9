"""The benchmark: its report has the form that the book's page is made from, and it runs."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmlib import Rollout, save_rollout

HERE = Path(__file__).parent / "benchmarks"
KEYS = {"name", "value", "unit", "yardstick", "ratio", "goal", "hardware", "versions"}
GOALS = {
    "agent_evaluation": 10,
    "collection": 8,
    "vae_training": 1.05,
    "vae_encoding": 1.3,
    "mdrnn_training": 1.15,
    "dream": 1.0,
    "reading": 3,
    "first_action": 5,
    "vae_training_gpu": None,
    "vae_encoding_gpu": None,
    "dream_gpu": None,
}
CURVES = {"population", "dream_rows", "rollouts", "ray_workers"}
MOST = 2e9  # bytes of memory that reading may take


def check_form(report: list[dict[str, Any]]) -> None:
    assert {row["name"]: row["goal"] for row in report if row["goal"]} | GOALS == GOALS
    assert [row["name"] for row in report] == list(dict.fromkeys(row["name"] for row in report))
    assert {row["name"] for row in report} == set(GOALS)
    for row in report:
        assert set(row) == KEYS
        assert {"python", "torch", "gymnasium"} <= set(row["versions"])
        if row["name"].endswith("_gpu") and row["value"] == "not measured":
            assert row["hardware"] == "not measured"
            assert row["ratio"] is row["yardstick"] is None
        elif row["name"] == "first_action":
            assert row["unit"] == "s"
            assert row["value"] > 0
        else:
            assert row["ratio"] == pytest.approx(row["value"] / row["yardstick"], rel=2e-3)
            assert row["unit"] in ("frames/s", "steps/s")


def test_the_committed_report_has_every_row_and_curve() -> None:
    check_form(json.loads((HERE / "report.json").read_text()))
    growth = json.loads((HERE / "growth.json").read_text())
    assert set(growth) == CURVES
    for points in growth.values():
        assert len(points) >= 4
        assert all(set(point) == {"x", "cost", "rate"} for point in points)


def test_the_books_page_is_the_one_made_from_the_report(root: Path, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("performance_page", HERE / "page.py")
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    reports = [json.loads((HERE / name).read_text()) for name in ("report.json", "growth.json")]
    page.write_page(*reports, tmp_path)
    written = (tmp_path / "performance.md").read_text()
    assert written == (root / "book" / "performance.md").read_text()
    pictures = re.findall(r"\{image\} (\S+)", written)
    assert len(pictures) == len(CURVES)
    assert all(
        (folder / picture).is_file() for picture in pictures for folder in (root / "book", tmp_path)
    )


@pytest.mark.slow
def test_a_tiny_run_goes_through_everything(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "run.py"), "--tiny", "--out", str(tmp_path)]
    subprocess.run([*command, "--book", str(tmp_path)], check=True)
    check_form(json.loads((tmp_path / "report.json").read_text()))
    growth = json.loads((tmp_path / "growth.json").read_text())
    assert all(growth[name] for name in CURVES - {"ray_workers"})
    page = (tmp_path / "performance.md").read_text()
    assert page.count("\n| ") >= len(GOALS) + 1
    assert "Not measured." in page  # the cluster, which a tiny run leaves out


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 rollouts of 1,000 frames: 2.4 GB, were they all in memory."""
    folder = tmp_path_factory.mktemp("library")
    steps = 1000
    frames = np.zeros((steps, 64, 64, 3), dtype=np.uint8)
    zeros = np.zeros(steps, dtype=np.float32)
    save_rollout(folder / "rollout_000000.npz", Rollout(frames, zeros[:, None], zeros, zeros))
    for i in range(1, 200):
        (folder / f"rollout_{i:06d}.npz").hardlink_to(folder / "rollout_000000.npz")
    return folder


@pytest.mark.slow
def test_reading_from_disk_takes_bounded_memory(library: Path) -> None:
    command = [sys.executable, str(HERE / "reading.py"), str(library)]
    found = json.loads(subprocess.check_output(command, text=True))
    assert 0.7e9 < found["gigabytes"] * 1e9 < MOST  # a buffer of 64 rollouts takes 0.8 GB


@pytest.mark.slow
def test_frames_that_v_keeps_are_held_once_at_any_time(library: Path) -> None:
    """Its buffer holds 128 of the 200 rollouts: 1.57 GB, also where one makes room for another."""
    code = (
        "import resource, sys\n"
        "from wmlib.datasets import Batches, ObservationDataset\n"
        "from wmlib.training import IN_MEMORY\n"
        "dataset = ObservationDataset(sys.argv[1], None, True, IN_MEMORY, 0)\n"
        "assert IN_MEMORY < len(dataset.files)\n"
        "for batch in Batches(dataset, 1000, 1000 * IN_MEMORY + 3000)(0): pass\n"
        "assert len(dataset.buffer) == IN_MEMORY\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\n"
    )
    peak = int(subprocess.check_output([sys.executable, "-c", code, str(library)]))
    assert 1.57e9 < peak < MOST
