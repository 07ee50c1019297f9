"""Shipping a run: what is loaded by name is what was trained, with episodes to look at."""

from pathlib import Path

import numpy as np
import pytest
import torch
from wmlib.ship import EARLIER, FRESH, RECORDS, ship

from wmlib import MDRNN, Controller, ConvVAE, episode_seed, load_pretrained
from wmlib.checkpoints import save_checkpoint, write_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of untrained models."""
    torch.manual_seed(0)
    logdir = tmp_path_factory.mktemp("run")
    models = {"vae": ConvVAE(), "mdrnn": MDRNN(32, 3, 16, 2), "ctrl": Controller(32, 16, 3)}
    for stage, model in models.items():
        save_checkpoint(logdir / stage / "best.tar", {"state_dict": model.state_dict()})
    row = {
        "agent": "agent",
        "backend": "gymnasium",
        "episodes": 4,
        "seed": 9,
        "hardware": "a lathe",
    }
    write_json(logdir / "report.json", {"rows": [row | {"mean": 12.4, "std": 3.0, "ci95": 2.9}]})
    for stage in ("vae", "mdrnn"):
        write_json(logdir / stage / "history.json", {"epochs": [{"seconds": 90.0}] * 4})
    for name in ("ctrl", "ablation/v_only"):
        path = logdir / name / "generations.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("generation,seconds,env_steps,mean\n1,30,500,1.5\n2,60,1000,2.5\n")
    return logdir


@pytest.fixture(scope="module")
def shipped(run: Path) -> Path:
    folder = run / "shipped"
    ship(run, folder, seq_len=5)
    return folder


def test_weights_come_back_as_they_were_trained(run: Path, shipped: Path) -> None:
    world = load_pretrained(shipped)
    trained = torch.load(run / "ctrl" / "best.tar", weights_only=True)["state_dict"]
    assert torch.equal(world.controller.fc.weight, trained["fc.weight"])
    assert world.mdrnn.hiddens == 16
    assert world.env_name == "CarRacing-v3"


def test_records_are_the_runs_own(run: Path, shipped: Path) -> None:
    for name in RECORDS:
        assert (shipped / name).read_bytes() == (run / name).read_bytes()


def test_what_an_ablation_left_goes_along(run: Path, shipped: Path) -> None:
    name = "ablation/v_only/generations.csv"
    assert (shipped / name).read_bytes() == (run / name).read_bytes()


def test_the_model_card_says_what_the_records_say(shipped: Path) -> None:
    card = (shipped / "README.md").read_text()
    for part in (
        'load_pretrained("shipped")',
        "V, a variational autoencoder | 4,348,547 parameters, 4 epochs in 6 minutes",
        "C, a linear map | 147 parameters, 2 generations",
        "| 1,000 in 1 minutes |",
        "a lathe",
        "| agent | gymnasium | 4, seed 9 | 12 ± 3 | 3 |",
    ):
        assert part in card


def test_agent_and_random_play_are_recorded_on_fresh_tracks(shipped: Path) -> None:
    world = load_pretrained(shipped)
    driven, (random,) = world.rollouts("agent"), world.rollouts("random")
    assert [r.seed for r in driven] == [episode_seed("collect", FRESH, i) for i in range(3)]
    assert random.seed == driven[0].seed
    assert np.array_equal(random.observations[0], driven[0].observations[0])
    assert [len(r) for r in world.rollouts()] == [5, 5, 5, 5]


def test_episodes_are_played_by_the_weights_as_shipped(shipped: Path) -> None:
    world = load_pretrained(shipped)
    (episode, *_), agent = world.rollouts("agent"), world.agent()
    agent.start([episode.seed])
    actions = [agent(frame) for frame in episode.observations]
    assert np.allclose(actions, episode.actions, atol=0.02)  # in another batch, in bf16


def test_shipping_again_leaves_nothing_of_the_last_time(run: Path, shipped: Path) -> None:
    (shipped / "rollouts" / "agent" / "rollout_000007.npz").write_bytes(b"old")
    ship(run, shipped, episodes=1, seq_len=5)
    assert len(load_pretrained(shipped).rollouts("agent")) == 1


def test_a_run_in_two_rounds_brings_the_search_of_the_first(run: Path, tmp_path: Path) -> None:
    ship(run, tmp_path / "one", episodes=1, seq_len=2)
    (run / EARLIER[0]).parent.mkdir(parents=True, exist_ok=True)
    (run / EARLIER[0]).write_text("generation,seconds,env_steps,mean\n9,120,7000,1.5\n")
    try:
        ship(run, tmp_path / "two", episodes=1, seq_len=2)
    finally:
        (run / EARLIER[0]).unlink()
    assert not (tmp_path / "one" / EARLIER[0]).exists()
    assert (tmp_path / "two" / EARLIER[0]).read_text().endswith("9,120,7000,1.5\n")
    card = (tmp_path / "two" / "README.md").read_text()
    assert "11 generations" in card
    assert "| 8,000 in 3 minutes |" in card


def test_an_unfinished_run_is_not_shipped(run: Path, tmp_path: Path) -> None:
    (run / "report.json").rename(tmp_path / "report.json")
    try:
        with pytest.raises(FileNotFoundError, match=r"report\.json does not exist"):
            ship(run, tmp_path / "shipped", seq_len=5)
    finally:
        (tmp_path / "report.json").rename(run / "report.json")


def test_a_run_is_not_shipped_over_itself(run: Path) -> None:
    for folder in (run, run.parent):
        with pytest.raises(ValueError, match="holds the run"):
            ship(run, folder)
    assert (run / "report.json").exists()
