"""Laps and their rows: nothing is driven twice, and every figure is what its name says."""

from pathlib import Path

import numpy as np
import pytest
from carracing import rooms

from wmlib.checkpoints import read_json, write_json
from wmlib.envs import episode_seed
from wmlib.evaluation import evaluate

(rows,) = rooms("rows")
COUNTING = "counting_env:Counting-v0"
SEEDS = [episode_seed("evaluate", 4, i) for i in range(5)]


def test_laps_are_those_of_the_package(tmp_path: Path) -> None:
    laps = rows.drive(tmp_path / "laps.json", "random", COUNTING, SEEDS, "auto", 50)
    row = evaluate("random", COUNTING, episodes=5, seed=4, time_limit=50)
    assert laps["returns"] == row["returns"]
    assert laps["steps"] == [8 + seed % 7 for seed in SEEDS]
    assert laps["backend"] == "gymnasium"
    assert read_json(tmp_path / "laps.json") == laps


def test_laps_that_are_there_are_not_driven_again(tmp_path: Path) -> None:
    path = tmp_path / "laps.json"
    laps = rows.drive(path, "random", COUNTING, SEEDS, "gymnasium", 50)
    begun = laps | {"returns": [-1.0, -2.0], "steps": [1, 1]}
    write_json(path, begun)
    again = rows.drive(path, "random", COUNTING, SEEDS, "gymnasium", 50)
    assert again["returns"] == [-1.0, -2.0, *laps["returns"][2:]]
    with pytest.raises(ValueError, match="recorded with seeds"):
        rows.drive(path, "random", COUNTING, SEEDS[1:], "gymnasium", 50)


def test_a_row_has_tails() -> None:
    returns = [900.0] * 17 + [700.0, 799.9, 800.0]
    laps = {"returns": returns, "steps": [880] * 19 + [1000], "backend": "gymnasium"}
    row = rows.lap_row("one command, seed 0", "CarRacing-v3", 1, laps)
    assert (row["agent"], row["seed"], row["episodes"]) == ("one command, seed 0", 1, 20)
    assert row["mean"] == pytest.approx(np.mean(returns), abs=1e-3)
    assert (row["worst"], row["below_800"], row["steps_per_lap"]) == (700.0, 0.1, 886.0)
    assert row["p10"] == pytest.approx(np.quantile(returns, 0.1), abs=1e-3)
    assert {"std", "ci95", "returns", "versions", "hardware", "env_id", "backend"} < row.keys()


def test_a_row_of_many_searches_is_about_searches() -> None:
    returns = np.array([[500.0, 700.0], [800.0, 1000.0], [550.0, 850.0]])
    row = rows.seeds_row("V only, z", "CarRacing-v3", "envpool", 3, returns, [5, 6, 7])
    means = [600.0, 900.0, 700.0]
    assert (row["seeds"], row["episodes"], row["means"]) == (3, 6, means)
    assert row["mean"] == pytest.approx(np.mean(means), abs=1e-3)
    assert row["std"] == pytest.approx(np.std(means, ddof=1), abs=1e-3)
    assert row["ci95"] == pytest.approx(1.96 * np.std(means, ddof=1) / 3**0.5, abs=1e-3)
    assert row["returns"] == [500.0, 700.0, 800.0, 1000.0, 550.0, 850.0]
    assert (row["worst"], row["env_steps"]) == (500.0, [5, 6, 7])
    assert row["below_800"] == pytest.approx(3 / 6)
