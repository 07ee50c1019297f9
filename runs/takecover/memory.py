"""M learns from whole games, at a rate of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from recipe import LATENTS, RNN
from torch import Tensor

from wmlib.training import Fit


class Games:
    """Whole games for M, those of like length side by side, each from its first frame on.

    Wounds are not to be seen in a frame: how many hits a player took, M must remember from the
    game's beginning. So no window is cut out of the middle.

    Args:
        latents: What ``precompute_latents`` gives.
        games: Which of them.
        steps: About how many steps a batch has.
        seed: Seed of order and noise.
        shuffle: Draw order and noise afresh in every epoch.
    """

    def __init__(
        self, latents: dict[str, np.ndarray], games: range, steps: int, seed: int, shuffle: bool
    ) -> None:
        ends = np.append(latents["episode_starts"], len(latents["latents"]))
        self.seed, self.shuffle = seed, shuffle
        self.rows = [slice(ends[game], ends[game + 1]) for game in games]
        within = slice(games.start, games.stop)
        self.final = latents["final_latents"][within], latents["final_logsigmas"][within]
        self.latents = latents
        order = sorted(range(len(self.rows)), key=lambda game: self.length(game))
        self.groups: list[list[int]] = [[]]
        for game in order:
            if self.groups[-1] and (len(self.groups[-1]) + 1) * self.length(game) > steps:
                self.groups.append([])
            self.groups[-1].append(game)

    def length(self, game: int) -> int:
        """Steps in a game."""
        return int(self.rows[game].stop - self.rows[game].start)

    def __len__(self) -> int:
        return len(self.groups)

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Padded z (B, T + 1, L), actions (B, T, 1), terminals and mask (B, T)."""
        rng = np.random.default_rng([self.seed, epoch if self.shuffle else 0])
        for number in rng.permutation(len(self.groups)) if self.shuffle else range(len(self)):
            yield self.batch(self.groups[number], rng)

    def batch(self, games: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, ...]:
        """See above, for some games."""
        count, longest = len(games), max(map(self.length, games))
        z = np.zeros((count, longest + 1, LATENTS), np.float32)
        action = np.zeros((count, longest, 1), np.float32)
        terminal, mask = np.zeros((2, count, longest), np.float32)
        for row, game in enumerate(games):
            rows, steps = self.rows[game], self.length(game)
            mu, logsigma = (
                np.concatenate([self.latents[key][rows], final[game][None]])
                for key, final in zip(("latents", "logsigmas"), self.final, strict=True)
            )
            noise = rng.standard_normal(mu.shape, dtype=np.float32)
            z[row, : steps + 1] = mu + np.exp(logsigma) * noise
            action[row, :steps] = self.latents["actions"][rows]
            terminal[row, :steps] = self.latents["terminals"][rows]
            mask[row, :steps] = 1
        return tuple(map(torch.from_numpy, (z, action, terminal, mask)))


def rate(epoch: int) -> float:
    """M's learning rate: a cosine over 32 epochs, left after 16 for the end of one over 18.

    There were to be 32. From the 13th on the held-out deaths were foreseen no better, and those of
    the training games better and better: so the rate was let down at once.
    """
    epochs = 32 if epoch < 16 else 18
    return RNN.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / epochs))


class Slowed(Fit):
    """M's training, at a rate of its own."""

    def _slow_down(self, epoch: int) -> None:
        self._set_rate(rate(epoch))
