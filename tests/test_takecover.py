"""Chapter 12's agent as it ships, and the script that makes it."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wmlib import load_pretrained
from wmlib.__main__ import main

SCRIPT = Path(__file__).resolve().parents[1] / "runs" / "takecover" / "train.py"


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("takecover_train", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LENGTHS = [3, 5, 2, 4]


@pytest.fixture
def latents() -> dict[str, np.ndarray]:
    """Four games without noise; every latent says game and step, the action the step."""
    rows = np.array([(game, t) for game, n in enumerate(LENGTHS) for t in range(n)])
    size = (len(rows), 64)
    return {
        "latents": np.broadcast_to((100 * rows[:, :1] + rows[:, 1:]), size).astype(np.float32),
        "logsigmas": np.full(size, -99, np.float32),
        "actions": rows[:, 1:].astype(np.float32),
        "terminals": np.array([t == LENGTHS[game] - 1 for game, t in rows], np.float32),
        "episode_starts": np.cumsum([0, *LENGTHS[:-1]]),
        "final_latents": np.array([[100 * g + n] * 64 for g, n in enumerate(LENGTHS)], np.float32),
        "final_logsigmas": np.full((4, 64), -99, np.float32),
    }


@pytest.mark.parametrize("shuffle", [False, True])
def test_whole_games_come_once_each_with_their_padding_marked(
    train: ModuleType, latents: dict[str, np.ndarray], shuffle: bool
) -> None:
    games = train.Games(latents, range(1, 4), 10, 0, shuffle)
    seen = []
    for z, action, terminal, mask in games(epoch=3):
        assert mask.numel() <= 10
        for row in range(len(z)):
            steps = int(mask[row].sum())
            game = int(z[row, 0, 0]) // 100
            seen.append(game)
            assert steps == LENGTHS[game]
            assert mask[row, :steps].all()
            expected = 100 * game + np.arange(steps + 1.0)
            np.testing.assert_array_equal(z[row, : steps + 1, 7], expected)
            np.testing.assert_array_equal(action[row, :steps, 0], np.arange(steps))
            assert terminal[row].nonzero().flatten().tolist() == [steps - 1]
    assert sorted(seen) == [1, 2, 3]
    assert len(list(games(0))) == len(games)


def test_an_epoch_is_the_same_each_time(train: ModuleType, latents: dict[str, np.ndarray]) -> None:
    latents["logsigmas"][:] = 0
    games = train.Games(latents, range(4), 10, 0, shuffle=True)
    for first, second, other in zip(games(1), games(1), games(2), strict=True):
        for one, again in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, again)
        assert first[0].shape != other[0].shape or not (first[0] == other[0]).all()


def test_blind_players_play_what_their_names_say(train: ModuleType) -> None:
    plan = train.plans("sweep 125", [1, 2])
    assert plan.shape == (2, 2100, 1)
    assert np.flatnonzero(np.diff(plan[0, :, 0])).tolist() == list(range(124, 2099, 125))
    assert (plan[:, 0] == 1).all()
    assert not train.plans("no-op", [1]).any()
    assert (train.plans("left", [1]) == -1).all()
    player = train.Blind("held")
    player.start([5, 6])
    moves = [player.act(np.zeros((2, 64, 64, 3), np.uint8), np.arange(2)) for _ in range(30)]
    np.testing.assert_array_equal(np.stack(moves, 1), train.plans("held", [5, 6])[:, :30])


def test_long_held_holds_short_in_some_games_and_long_in_others(train: ModuleType) -> None:
    told = train.plans("long-held", list(range(40)))[..., 0]
    assert set(np.unique(told)) == {-1, 0, 1}
    runs = [2100 / (1 + np.count_nonzero(np.diff(plan))) for plan in told]
    assert min(runs) < 6
    assert max(runs) > 30


def test_deaths_are_counted_by_hand(train: ModuleType) -> None:
    """Foreseen at the last step; foreseen a little before; missed; and a game without a death."""
    fears = [[0, 0, 0, 0.9], [0, 0.9, 0.2, 0.1], [0.9, 0, 0, 0], [0.9, 0, 0, 0.9]]
    ended = [True, True, True, False]
    row = train.deaths([np.array(fear) for fear in fears], ended, near=3)
    assert row["deaths"] == 3
    assert row["recall"] == pytest.approx(1 / 3)
    assert row["recall within 3"] == pytest.approx(2 / 3)
    assert row["alarms"] == 5
    assert row["precision"] == pytest.approx(2 / 5)


# ------------------------------------------------------------------------------ what ships


def test_it_acts_without_vizdoom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chapter dreams where nobody can play; C sees z, h and c, as the paper's does in Doom."""
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    world = load_pretrained("takecover")
    assert (world.mdrnn.latents, world.mdrnn.hiddens, world.mdrnn.mixture) == (64, 512, "latent")
    assert sum(weight.numel() for weight in world.controller.parameters()) == 64 + 2 * 512 + 1
    agent = world.agent(device="cpu")
    assert agent.sees == 2
    (game, *_) = world.rollouts("agent")
    agent.start([0])
    moves = [agent.act(frame[None], np.zeros(1, int))[0, 0] for frame in game.observations[:60]]
    assert set(moves) <= {-1, 0, 1}
    assert np.mean(moves == game.actions[:60, 0]) > 0.9  # sums are rounded otherwise elsewhere


def test_the_report_has_every_game_and_says_which_dream() -> None:
    world = load_pretrained("takecover")
    rows = json.loads((world.folder / "report.json").read_text())["rows"]
    assert len({row["agent"] for row in rows}) == len(rows)
    for row in rows:
        assert len(row["returns"]) == row["episodes"]
        assert row["mean"] == pytest.approx(np.mean(row["returns"]), abs=1e-3)
        assert row["seed"] == 0
    dreamed = {row["tau"]: row for row in rows if "tau" in row}
    assert sorted(dreamed) == [0.1, 0.5, 1.0, 1.15, 1.3]
    assert all(0 < row["dream_mean"] <= 2100 and row["dream_std"] >= 0 for row in dreamed.values())
    (shipped,) = [row for row in rows if "shipped agent" in row["agent"] and "tau" in row]
    assert shipped["episodes"] == 1000
    assert shipped["tau"] == world.info["temperature"]


def test_the_command_line_scores_it(tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    path = tmp_path / "report.json"
    game = ["--env", "VizdoomTakeCover-v1", "--test", "--episodes", "2", "--seed", "3"]
    assert main([*game, "--device", "cpu", "--report", str(path)]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert row["env_id"] == "VizdoomTakeCover-v1"
    assert all(60 < tics <= 2100 for tics in row["returns"])
