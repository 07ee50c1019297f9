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


class NaNRewardEnv(CountingEnv):
    """Pays NaN: at the fourth step of every episode, or, ``late``, of every second one."""

    def __init__(self, late: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.late, self.episodes = late, 0

    def reset(self, **kwargs: Any) -> Any:
        self.episodes += 1
        return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        frame, reward, *rest = super().step(action)
        sick = self.count == 4 and (not self.late or self.episodes % 2 == 0)
        return frame, float("nan") if sick else reward, *rest


gym.register("Paying-v0", PayingEnv)
gym.register("NaNReward-v0", NaNRewardEnv)
gym.register("LateNaN-v0", NaNRewardEnv, kwargs={"late": True})
gym.register("Mortal-v0", MortalEnv)
