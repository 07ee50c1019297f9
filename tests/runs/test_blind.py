"""Blind players: what they do, and how far they come in a dream."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from wmlib.envs import TakeCover


@pytest.fixture(scope="module")
def blind() -> ModuleType:
    folder = str(Path(__file__).resolve().parents[2] / "runs")
    sys.path.insert(0, folder)
    try:
        import blind
    finally:
        sys.path.remove(folder)
    return blind


class Scripted:
    """Dreams of which each ends after a number of steps of its own; a step pays what is done."""

    device = torch.device("cpu")

    def __init__(self, lengths: list[int]) -> None:
        self.left, self.z = torch.tensor(lengths), torch.zeros(len(lengths), 1)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert len(action) == len(self.left)
        self.left = self.left - 1
        return self.z, action[:, 0], (self.left <= 0).float()

    def keep(self, rows: Tensor) -> None:
        self.left, self.z = self.left[rows], self.z[rows]


def test_each_dream_is_paid_until_it_ends(blind: ModuleType) -> None:
    plan = torch.tensor([1.0, 10.0, 100.0, 1000.0]).repeat(6, 1).T[..., None]  # (4, 6, 1)
    dream = Scripted([3, 1, 9, 2])
    returns, lengths = blind.dream_on(dream, lambda t, rows: plan[rows, t], 6)
    assert lengths.tolist() == [3, 1, 6, 2]
    assert returns.tolist() == [3, 10, 600, 2000]


def test_a_blind_player_keeps_to_its_plan(blind: ModuleType) -> None:
    plans = np.arange(12, dtype=np.float32).reshape(2, 6, 1)
    player = blind.Blind(lambda seeds: plans[: len(seeds)])
    player.start([7, 8])
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    assert player.act(frames, np.array([0, 1])).ravel().tolist() == [0, 6]
    assert player.act(frames[:1], np.array([1])).ravel().tolist() == [7]


def test_moves_of_other_episodes_begin_again(blind: ModuleType) -> None:
    moves = [np.array([[1.0], [2.0]]), np.array([[5.0], [6.0], [7.0]])]
    plan = blind.plans_of("replayed", [1, 2, 3], TakeCover.ACTIONS, 4, {}, lambda: moves)
    assert plan[..., 0].tolist() == [[1, 2, 1, 2], [5, 6, 7, 5], [1, 2, 1, 2]]
