"""The counting world, slow enough that a node can be killed while its episodes are played."""

import time
from pathlib import Path
from typing import Any

import gymnasium as gym
from counting_env import CountingEnv


class SleepyEnv(CountingEnv):
    """Sleeps at every step, and leaves a mark for every episode begun.

    Args:
        pause: Seconds of sleep.
        marks: Folder for the marks.
        kwargs: See ``CountingEnv``.
    """

    def __init__(self, pause: float, marks: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pause, self.marks = pause, Path(marks)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        first = super().reset(seed=seed, options=options)
        (self.marks / f"{self.seed}-{time.time_ns()}").touch()
        return first

    def step(self, action: Any) -> Any:
        time.sleep(self.pause)
        return super().step(action)


gym.register("Sleepy-v0", SleepyEnv)
