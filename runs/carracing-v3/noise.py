"""A driver whose hand shakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wmlib.envs import ActionMap
from wmlib.policies import Policy

MEMORY = 0.92  # of the noise from one step to the next, as in random play


class NoisyPolicy:
    """A driver whose hand shakes, a little in some episodes and badly in others.

    V and M trained on a driver's own clean laps never see how it looks to slide, to spin and to
    come back; random play never sees speed. This visits both.

    Args:
        driver: The policy that drives.
        space: The environment's action space, a bounded box.
        most: Largest standard deviation of the noise, as a fraction of the action's range.

    Raises:
        ValueError: If the space is not bounded.
    """

    def __init__(self, driver: Policy, space: Any, most: float = 0.3) -> None:
        self.driver, self.most = driver, most
        actions = ActionMap(space)
        if not actions.is_bounded:
            raise ValueError(f"NoisyPolicy wants a bounded Box, found {space}")
        self.low, self.high = actions.low.numpy(), actions.high.numpy()  # (A,) each

    def start(self, seeds: Sequence[int]) -> None:
        """Begin ``len(seeds)`` episodes, each with its own amount of noise."""
        self.driver.start(seeds)
        self.streams = [np.random.default_rng(seed) for seed in seeds]
        amounts = [self.most * stream.random() ** 2 for stream in self.streams]  # mostly little
        self.spread = np.stack([amount * (self.high - self.low) for amount in amounts])
        self.shake = np.zeros((len(seeds), len(self.low)))

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The driver's actions (n, A) with smooth noise, within the bounds."""
        fresh = np.stack([self.streams[row].standard_normal(len(self.low)) for row in rows])
        self.shake[rows] = MEMORY * self.shake[rows] + np.sqrt(1 - MEMORY**2) * fresh
        shaken = self.driver.act(frames, rows) + self.spread[rows] * self.shake[rows]
        clipped: np.ndarray = np.clip(shaken, self.low, self.high).astype(np.float32)
        return clipped
