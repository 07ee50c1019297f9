"""The ways to dream of runs/takecover: what C is shown, what M forgets, and what the blind walk."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from wmlib.agent import Agent
from wmlib.checkpoints import load_checkpoint, save_checkpoint, write_json
from wmlib.evaluators import DreamEvaluator
from wmlib.mdrnn import MDRNN, mdrnn_from_state
from wmlib.rollouts import Rollout
from wmlib.vae import ConvVAE
from wmlib.world import WorldModel, round_as_shipped

RUNS = Path(__file__).resolve().parents[2] / "runs"
TIME_UP = 30


@pytest.fixture(scope="module")
def train() -> ModuleType:
    sys.path.insert(0, str(RUNS / "takecover"))
    try:
        import train
    finally:
        sys.path.remove(str(RUNS / "takecover"))
    return train


@pytest.fixture(scope="module")
def dreams(train: ModuleType) -> ModuleType:
    return sys.modules["dreams"]


@pytest.fixture(autouse=True)
def _float32(float32: None) -> None: ...


@pytest.fixture
def world(dreams: ModuleType) -> WorldModel:
    torch.manual_seed(1)
    mdrnn = MDRNN(64, 1, 16, 2, "latent")
    mdrnn.gmm_linear.bias.data[-1] = -1.0  # it foresees some ends, not all
    mdrnn.gmm_linear.weight.data[-1] *= 20
    mdrnn.rnn.weight_ih_l0.data[:, 0] *= 20  # and what one does matters
    info = {"env_name": "VizdoomTakeCover-v1"}
    return WorldModel(ConvVAE(3, 64), mdrnn, None, info)  # type: ignore[arg-type]


def starts() -> list[Rollout]:
    frame, zero = np.zeros((1, 64, 64, 3), np.uint8), np.zeros(1, np.float32)
    return [Rollout(frame, zero[:, None], zero, zero)]


def lengths(dreams: ModuleType, world: WorldModel, way: object, flat: np.ndarray) -> np.ndarray:
    agent: Agent = dreams.agent_of(way, world, "cpu")
    evaluator: DreamEvaluator = dreams.evaluator_of(way, agent, world, starts(), TIME_UP)
    return evaluator(flat[None], range(12)).returns[0]


def test_ways_have_folders_and_captions_of_their_own(train: ModuleType) -> None:
    ways = train.TABLE + train.OTHERS + train.ONCE_MORE
    assert len({way.name for way in ways}) == len({way.caption for way in ways}) == len(ways)
    assert [way.name for way in train.TABLE] == [
        f"ctrl-{tau}" for tau in ("0.1", "0.5", "1", "1.15", "1.3")
    ]


def test_who_sees_another_m_dreams_the_same_dream(dreams: ModuleType, world: WorldModel) -> None:
    """At zero C does the same whatever it sees; what it is shown then differs."""
    plain, beside = dreams.Way(1.0), dreams.Way(1.0, "h and c of an untrained M")
    still = np.zeros(64 + 32 + 1)
    own = lengths(dreams, world, plain, still)
    assert len(set(own)) > 1
    np.testing.assert_array_equal(own, lengths(dreams, world, beside, still))
    swayed = np.random.default_rng(0).normal(0, 3, still.shape)
    swayed[:64] = 0  # C looks at nothing but h and c
    assert (lengths(dreams, world, plain, swayed) != lengths(dreams, world, beside, swayed)).any()


def test_who_sees_z_alone_has_few_weights(dreams: ModuleType, world: WorldModel) -> None:
    way = dreams.Way(1.0, "z")
    assert dreams.agent_of(way, world, "cpu").controller.fc.in_features == 64
    still = lengths(dreams, world, way, np.zeros(65))
    np.testing.assert_array_equal(still, lengths(dreams, world, dreams.Way(1.0), np.zeros(97)))


def test_what_is_forgotten_is_made_up_for(dreams: ModuleType, world: WorldModel) -> None:
    """Of nothing forgotten comes M's own prediction; of a half, that prediction on average."""
    cell = world.cell
    action, z = torch.zeros(4000, 1), torch.zeros(4000, 64)
    hidden = [torch.randn(1, 16).repeat(4000, 1) for _ in range(2)]

    def mean_end(share: float) -> torch.Tensor:
        forgetful = dreams.Forgetful(cell, share)
        forgetful.watch(torch.zeros(1, 0, 1), torch.zeros(1, 0, 64))
        with torch.no_grad():
            *_, end, _ = forgetful(action, z, hidden)
        return end

    with torch.no_grad():
        *_, wanted, _ = cell(action, z, hidden)
    torch.testing.assert_close(mean_end(0.0), wanted)
    half = mean_end(0.5)
    assert half.std() > 0.1
    assert half.mean() == pytest.approx(wanted.mean().item(), abs=4 * half.std().item() / 4000**0.5)


def test_walkers_walk_from_side_to_side(train: ModuleType) -> None:
    plan = train.plans("walk", range(50))
    assert plan.shape == (50, 2100, 1)
    assert set(np.unique(plan)) == {-1.0, 1.0}
    strides = [np.diff(np.flatnonzero(np.diff(game[:, 0]))) for game in plan]
    assert min(stride.min() for stride in strides) >= 20
    means = [stride.mean() for stride in strides]
    assert min(means) < 70
    assert max(means) > 120
    both = train.plans("long-held or walk", range(50))
    walks = (both == plan).all((1, 2))
    assert 0.2 < walks.mean() < 0.6
    np.testing.assert_array_equal(
        both[~walks], train.plans("long-held", np.arange(50)[~walks].tolist())
    )


def test_two_sets_of_games_become_one(train: ModuleType) -> None:
    def some(lengths: list[int], value: float) -> dict[str, np.ndarray]:
        rows = {key: np.full((sum(lengths), 64), value, np.float32) for key in ("latents",)}
        rows["logsigmas"] = rows["latents"] - 99
        rows["actions"] = np.zeros((sum(lengths), 1), np.float32)
        rows["terminals"] = np.zeros(sum(lengths), np.float32)
        rows["episode_starts"] = np.cumsum([0, *lengths[:-1]])
        rows["final_latents"] = np.full((len(lengths), 64), value, np.float32)
        rows["final_logsigmas"] = rows["final_latents"] - 99
        return rows

    both = train.joined(some([3, 5], 1.0), some([2, 4], 2.0))
    assert both["episode_starts"].tolist() == [0, 3, 8, 10]
    games = train.Games(both, [0, 2, 3], 8, 0, shuffle=False)
    seen = [(z[row, 0, 0].item(), int(mask[row].sum())) for z, _, _, mask in games(0)
            for row in range(len(z))]  # fmt: skip
    assert sorted(seen) == [(1.0, 3), (2.0, 2), (2.0, 4)]


def test_what_was_kept_is_taken_up_elsewhere(
    train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "LOGDIR", tmp_path / "here")
    monkeypatch.setattr(train, "STATE", tmp_path / "state")
    torch.manual_seed(2)
    mdrnn = MDRNN(64, 1, 16, 2, "latent")
    save_checkpoint(tmp_path / "here/mdrnn/best.tar", {"state_dict": mdrnn.state_dict()})
    save_checkpoint(tmp_path / "here/mdrnn/checkpoint.tar", {"state_dict": mdrnn.state_dict()})
    for name in ("mdrnn/history.json", "again/mdrnn/history.json", "ctrl-1/ctrl/search.json"):
        write_json(tmp_path / "here" / name, {"finished": "again" not in name, "epochs": []})
    write_json(tmp_path / "here/games/select/no-op/0000-0100.json", [1.0, 2.0])
    train.keep()
    monkeypatch.setattr(train, "LOGDIR", tmp_path / "there")
    train.take_up()
    found = {str(p.relative_to(tmp_path / "there")) for p in (tmp_path / "there").rglob("*.*")}
    assert "mdrnn/checkpoint.tar" not in found  # large, and of use to this training only
    assert {"mdrnn/best.tar", "ctrl-1/ctrl/search.json"} < found
    assert "games/select/no-op/0000-0100.json" in found
    state = load_checkpoint(tmp_path / "there/mdrnn/best.tar")["state_dict"]
    same = mdrnn_from_state(state, 64)
    round_as_shipped(mdrnn)
    torch.testing.assert_close(same.state_dict(), mdrnn.state_dict())
    assert train.learned(tmp_path / "there/mdrnn")
    assert not train.learned(tmp_path / "there/again/mdrnn")
    (tmp_path / "there/mdrnn/best.tar").unlink()
    assert not train.learned(tmp_path / "there/mdrnn")
    train.take_up()  # what was begun here is not written over
    assert not (tmp_path / "there/mdrnn/best.tar").exists()
