"""The whole of runs/takecover in small, in the real game: from nothing to the packed files."""

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wmlib.rollouts import rollout_files
from wmlib.world import load_pretrained

pytestmark = pytest.mark.slow

RUNS = Path(__file__).resolve().parents[2] / "runs"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with a handful of games, one epoch, two generations."""
    monkeypatch.syspath_prepend(str(RUNS / "takecover"))
    import train

    folders = {"DATA": "data", "LOGDIR": "results", "OWN": "own", "AGAIN": "again"}
    folders |= {"PACKED": "packed", "STATE": "state"}
    for name, folder in folders.items():
        monkeypatch.setattr(train, name, tmp_path / folder)
    data, logdir = str(tmp_path / "data"), str(tmp_path / "results")
    learn = {"logdir": logdir, "num_epochs": 1}
    sizes = {"epoch_size": 200, "train_batch_size": 20, "data_dir": f"{data}/first"}
    search = {"pop_size": 4, "n_samples": 2, "time_limit": 100, "logdir": logdir}
    configs = {"VAE": learn | sizes, "RNN": learn | {"data_dir": data}, "CTRL": search}
    for name, changes in configs.items():
        monkeypatch.setattr(train, name, dataclasses.replace(getattr(train, name), **changes))
    counts = {"FIRST": 4, "REST": 5, "HELD_OUT": 3, "OWN_GAMES": 2, "LIMIT": 100}
    for name, count in (counts | {"GENERATIONS": 2, "MORE": 1}).items():
        monkeypatch.setattr(train, name, count)
    monkeypatch.setattr(train, "GAMES", dict.fromkeys(train.GAMES, 2))
    return train


def test_from_nothing_to_the_packed_files(
    small: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vizdoom")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    small.main()
    world = load_pretrained(tmp_path / "packed")
    assert sum(weight.numel() for weight in world.controller.parameters()) == 64 + 2 * 512 + 1
    assert sorted(world.others) == ["tau-010", "tau-050", "tau-100", "tau-115", "tau-130"]
    rows = json.loads((tmp_path / "packed" / "report.json").read_text())["rows"]
    names = [row["agent"] for row in rows]
    for way in small.TABLE + small.OTHERS + small.ONCE_MORE:
        assert sum(name.startswith(way.caption) for name in names) >= 1, way
    assert all(0 < tics <= 100 for row in rows for tics in row["returns"])
    assert len(rollout_files(tmp_path / "again")) == 2
    audits = [json.loads((tmp_path / place / "audit.json").read_text())
              for place in ("results", "results/again")]  # fmt: skip
    assert audits[0]["walk"]["real"] == audits[1]["walk"]["real"]  # no game is played twice
    assert audits[0] != audits[1]  # another M, another dream

    # On another machine, with the state that was kept: nothing is learned or played again.
    for name in ("see", "remember", "dream", "test"):
        before = {
            path: path.stat().st_mtime_ns
            for path in (tmp_path / "results").rglob("*")
            if path.name in ("best.tar", "search.json") or "games" in path.parts
        }
        monkeypatch.setattr(sys, "argv", ["train.py", "--only", name])
        small.main()
        assert before == {path: path.stat().st_mtime_ns for path in before}
    assert np.isfinite([row["mean"] for row in rows]).all()
