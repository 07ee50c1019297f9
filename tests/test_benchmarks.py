"""The benchmark: its report has the form that the book's page is made from, and it runs."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from wmlib import Rollout, save_rollout
from wmlib.checkpoints import read_json

HERE = Path(__file__).parent / "benchmarks"
KEYS = {
    "name", "value", "unit", "yardstick", "ratio", "goal", "hardware", "versions", "flop", "limit",
    "in_products",
}  # fmt: skip
GOALS = {
    "agent_evaluation": 10,
    "collection": 8,
    "agent_evaluation_gymnasium": None,
    "collection_gymnasium": None,
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
IN_PRODUCTS = {"vae_training", "mdrnn_training", "dream"}
CURVES = {"population", "dream_rows", "rollouts", "ray_workers"}
MOST = 2e9  # bytes of memory that reading may take


def check_form(report: list[dict[str, Any]]) -> None:
    assert {row["name"]: row["goal"] for row in report if row["goal"]} | GOALS == GOALS
    assert [row["name"] for row in report] == list(dict.fromkeys(row["name"] for row in report))
    assert {row["name"] for row in report} == set(GOALS)
    for row in report:
        assert set(row) == KEYS
        assert (row["in_products"] is not None) == (row["name"] in IN_PRODUCTS)
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
    growth = read_json(HERE / "growth.json")
    assert set(growth) == CURVES
    for points in growth.values():
        assert len(points) >= 4
        assert all(set(point) == {"x", "cost", "rate"} for point in points)


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A module of the benchmark by name: they are scripts, in a folder of their own."""
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module


def test_the_books_page_is_the_one_made_from_the_report(
    root: Path, tmp_path: Path, benchmarks: Callable[[str], ModuleType]
) -> None:
    benchmarks("page").write_page(HERE, tmp_path)
    written = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert written == (root / "book" / "performance.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\{image\} (\S+)", written)
    assert len(pictures) == len(CURVES)
    assert all(
        (folder / picture).is_file() for picture in pictures for folder in (root / "book", tmp_path)
    )


def test_the_page_says_which_games_are_compared(root: Path) -> None:
    text = (root / "book" / "performance.md").read_text(encoding="utf-8")
    for what in ("driven by the whole agent", "rollouts played"):
        (line,) = [x for x in text.splitlines() if what in x and "QuickCarRacing" not in x]
        assert line.index("in EnvPool") < line.index("in Gymnasium")


def test_one_yardstick_serves_all_rows_of_a_run(benchmarks: Callable[[str], ModuleType]) -> None:
    measure = benchmarks("measure")
    products, cpu = measure.Products(), measure.CPU
    products.samples = {
        (cpu, torch.float32): [90e9, 100e9, 160e9],
        (cpu, torch.bfloat16): [300e9, 200e9, 400e9],
    }
    rows = [
        measure.row("vae_training", 500.0, "frames/s", None, 1.05, cpu, 200e6),
        measure.row("dream", 50_000.0, "steps/s", None, 1.0, cpu, 1e6),
        measure.row("collection", 40.0, "steps/s", 20.0, 8),
    ]
    vae, dream, collection = products.hold_against(rows)
    assert (vae.yardstick, vae.ratio, vae.limit) == (500, 1.0, 1500)
    assert (dream.yardstick, dream.ratio, dream.limit) == (100_000, 0.5, 300_000)
    assert collection == rows[2]
    assert vae.yardstick * vae.flop == dream.yardstick * dream.flop


def test_the_share_of_products_is_of_torchs_time(
    benchmarks: Callable[[str], ModuleType],
) -> None:
    share = benchmarks("measure").share_of_products
    x = torch.randn(512, 512)
    assert share(lambda: [x @ x for _ in range(5)]) > 0.9
    assert share(lambda: [x.exp() for _ in range(5)]) == 0
    assert 0.1 < share(lambda: [x @ x, [x.exp() for _ in range(20)]]) < 0.9


def test_products_are_sampled_between_the_rounds(
    benchmarks: Callable[[str], ModuleType],
) -> None:
    measure = benchmarks("measure")
    products, calls = measure.Products(), []
    rates = iter([1.0, 5.0, 7.0, 9.0])
    products.sample = lambda device: calls.append(device)
    assert products.between(3, lambda: next(rates), measure.CPU) == 7
    assert calls == [measure.CPU] * 4


def test_another_machine_gets_a_column(
    tmp_path: Path, benchmarks: Callable[[str], ModuleType]
) -> None:
    for name in ("report.json", "growth.json"):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    rows = json.loads((HERE / "report.json").read_text())
    other = [row | {"hardware": "an abacus", "limit": 1e9} for row in rows]
    other[0]["ratio"] = 0.42
    (tmp_path / "report_abacus.json").write_text(json.dumps(other))
    benchmarks("page").write_page(tmp_path, tmp_path)
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert f"| what | {rows[0]['hardware']} | an abacus |" in text
    assert f"| {rows[0]['ratio']:.2f} | 0.42 |" in text


@pytest.mark.slow
def test_a_tiny_run_goes_through_everything(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "run.py"), "--tiny", "--out", str(tmp_path)]
    subprocess.run([*command, "--book", str(tmp_path)], check=True)
    report = json.loads((tmp_path / "report.json").read_text())
    check_form(report)
    products = {row["yardstick"] * row["flop"] for row in report if row["flop"] and row["limit"]}
    assert len(products) > 2
    assert max(products) < 1.01 * min(products)  # one yardstick, and four digits of it
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
    """Its buffer holds 120 of the 200 rollouts: 1.47 GB, also where one makes room for another."""
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
    assert 1.47e9 < peak < MOST
