"""The whole script in small: from nothing to the packed file, killed once on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from carracing import FOLDER, rooms

from wmlib import load_pretrained
from wmlib.checkpoints import load_checkpoint, read_json
from wmlib.controller import flatten_parameters
from wmlib.show.plots import read_search
from wmlib.vector_envs import choose_backend
from wmlib.world import load_trained

choice, driver, recipe = rooms("choice", "driver", "recipe")
SCRIPT = [sys.executable, str(FOLDER / "driver.py"), "--tiny", "--seed", "3"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in its second search, and went on."""
    logdir = tmp_path_factory.mktemp("run")
    command = [*SCRIPT, "--logdir", str(logdir), "--final", "3"]
    root = FOLDER.parents[1]
    env = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    begun = logdir / "envpool" / "ctrl" / "search.json"
    while not begun.exists() and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert begun.exists()
    assert not (logdir / "ctrl").exists()
    logdir.joinpath("killed.txt").write_text(begun.read_text())
    driver.main([*command[2:]])
    return logdir


def test_it_goes_from_nothing_to_the_packed_file(run: Path) -> None:
    world = load_pretrained(run / "carracing-v3")
    chosen = load_checkpoint(run / "ctrl" / "chosen.tar")
    assert torch.equal(world.controller.fc.weight, chosen["state_dict"]["fc.weight"])
    trained = load_trained(run)
    assert torch.equal(world.vae.encoder.fc_mu.weight, trained.vae.encoder.fc_mu.weight)
    assert [len(r) for r in world.rollouts("agent")] == [5]
    assert len(read_search(run / "carracing-v3")) == 6  # three searches of two generations
    report = read_json(run / "carracing-v3" / "report.json")
    rows = {(row["agent"], row["backend"], row["seed"]): row for row in report["rows"]}
    game = choose_backend(driver.ENV)  # where a search may drive: EnvPool's, if it is there
    assert set(rows) == {
        ("one command, seed 3", "gymnasium", driver.TEST),
        ("one command, seed 3", game, driver.TEST),
        ("one command, seed 3, z sampled", "gymnasium", driver.TEST),
        ("one command, seed 3, h at zero", game, driver.TEST),
        ("one command, seed 3, h of another lap", game, driver.TEST),
        ("random", "gymnasium", driver.FINAL),
        ("V + M, the shipped agent", "gymnasium", driver.FINAL),
    }
    assert rows["V + M, the shipped agent", "gymnasium", driver.FINAL]["episodes"] == 3
    assert set(report["sight"]) <= {"gymnasium", "envpool"}


def test_the_killed_search_went_on(run: Path) -> None:
    before = read_json(run / "killed.txt")
    after = read_json(run / "envpool" / "ctrl" / "search.json")
    done = len(before["rows"])
    assert after["fitness"][:done] == before["fitness"]
    assert after["settings"] == before["settings"]
    assert len(after["rows"]) == 2
    times = read_json(run / "times.json")
    assert times.keys() == {
        "round1", "round2", "look", "envpool", "gymnasium", "choice", "test", "pack"
    }  # fmt: skip
    assert all(0 < taken["core_seconds"] < 100 * taken["seconds"] for taken in times.values())


def test_what_was_chosen_is_what_scored_best(run: Path) -> None:
    record = read_json(run / "ctrl" / "choice.json")
    whole = {name: laps for name, laps in record["returns"].items() if len(laps) == 2}
    best = max(whole, key=lambda name: sum(whole[name]))
    steered = read_json(run / "ctrl" / "steering.json")["returns"]
    assert list(steered) == [best, f"{best}, steer +0.1"]
    chosen = load_checkpoint(run / "ctrl" / "chosen.tar")
    assert chosen["chosen"] == max(steered, key=lambda name: sum(steered[name]))


def test_no_search_writes_over_what_was_chosen(run: Path) -> None:
    """The trap: a search that went on after the choice would replace what had scored better."""
    chosen = (run / "ctrl" / "chosen.tar").read_bytes()
    longer = recipe.TINY | {"gymnasium": recipe.TINY["gymnasium"] | {"num_generations": 3}}
    again = driver.Driver(3, run, longer, run / "carracing-v3")
    again.search_in_gymnasium()
    assert len(read_json(run / "ctrl" / "search.json")["rows"]) == 3
    assert (run / "ctrl" / "chosen.tar").read_bytes() == chosen
    flat = flatten_parameters(again.world.controller.parameters())
    weights = load_checkpoint(run / "ctrl" / "chosen.tar")["state_dict"].values()
    assert (flat == flatten_parameters(weights)).all()


def test_the_ablation_is_a_stage_of_its_own(run: Path) -> None:
    driver.main([*SCRIPT[2:], "--logdir", str(run), "--stage", "ablation"])
    report = read_json(run / "ablation" / "report.json")
    assert [row["agent"] for row in report["rows"]] == [
        "V only, z", "V + untrained M", "V + M, z and h"
    ]  # fmt: skip
    for row in report["rows"]:
        assert (row["seeds"], row["seed"], len(row["returns"])) == (2, driver.ABLATION, 4)
        assert min(row["env_steps"]) >= recipe.TINY["ablation"]["env_steps"]
    for number in range(2):
        searches = [
            read_json(run / "ablation" / f"{arm}_{number}" / "ctrl" / "search.json")
            for arm in ("z", "untrained", "z_h")
        ]
        assert len({str(search["played"][0]["seeds"]) for search in searches}) == 1
        assert {search["settings"]["sigma0"] for search in searches} == {0.4}


def test_both_games_are_among_what_is_held_out() -> None:
    for count in (240, 560):
        calls = driver.in_both_games(range(count), policy="held")
        parts = {call["backend"]: call["part"] for call in calls}
        assert {call["policy"] for call in calls} == {"held"}
        assert sorted(parts["auto"] + parts["gymnasium"]) == list(range(count))
        held_out = range(count - count // 10, count)
        assert len([i for i in held_out if i in parts["gymnasium"]]) == len(held_out) // 3


def test_a_stage_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        driver.main(["--tiny", "--stage", "everything", "--logdir", "nowhere"])
    assert "round1, round2" in capsys.readouterr().err
