"""The counting world made to pay for actions, and to die: what training and its failures need."""

import os
from typing import Any

import gymnasium as gym
from counting_env import CountingEnv


class PayingEnv(CountingEnv):
    """Each step pays the action's first number, so a driver's return can be worked out by hand."""

    def step(self, action: Any) -> Any:
        frame, _, terminated, truncated, info = super().step(action)
        return frame, float(action[0]), terminated, truncated, info


class MortalEnv(CountingEnv):
    """Ends its whole process, as a lack of memory would, three steps into an episode.

    Args:
        lives: Episodes that each process survives before.
        kwargs: See ``CountingEnv``.
    """

    def __init__(self, lives: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lives, self.episodes = lives, 0

    def reset(self, **kwargs: Any) -> Any:
        self.episodes += 1
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        if self.episodes > self.lives and self.count == 3:
            os._exit(1)
        return super().step(action)


gym.register("Paying-v0", PayingEnv)
gym.register("Mortal-v0", MortalEnv)
