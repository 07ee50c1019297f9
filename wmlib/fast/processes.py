"""Gymnasium's environments in processes of their own, all stepped at once."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from wmlib.envs import make_image_env
from wmlib.vector_envs import Steps, VectorImageEnv


class _Idle(gym.Wrapper[Any, Any, Any, Any]):
    """Rests after its episode's end: a vector environment steps all rows or none."""

    resting = False

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.resting = False
        self.last, info = self.env.reset(**kwargs)
        return self.last, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.resting:
            return self.last, 0.0, True, False, {}
        self.last, reward, terminated, truncated, info = self.env.step(action)
        self.resting = terminated or truncated
        return self.last, float(reward), terminated, truncated, info


def _make_row(env_name: str, kwargs: dict[str, Any]) -> _Idle:
    """A row in a process of its own, which Ctrl-C ends without a word: the main one says it."""
    if multiprocessing.parent_process() is not None:  # gymnasium also makes one here, to look at
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    return _Idle(make_image_env(env_name, **kwargs))


class Processes(VectorImageEnv):
    """Gymnasium's own vector environment, one process per row: see ``VectorImageEnv``."""

    backend = "gymnasium"

    def __init__(self, env_name: str, rows: int, kwargs: dict[str, Any]) -> None:
        self.rows, self.env_name = rows, env_name
        cv2.setNumThreads(0)  # OpenCV's thread pool would not survive the fork
        make = functools.partial(_make_row, env_name, kwargs)
        self.vector = AsyncVectorEnv([make] * rows, autoreset_mode=AutoresetMode.DISABLED)
        self.action_space = self.vector.single_action_space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        padded = [*seeds, *[seeds[0]] * (self.rows - len(seeds))]
        with self._named_errors():
            frames, _ = self.vector.reset(seed=[int(seed) for seed in padded])
        self.resting = np.zeros(self.rows, dtype=bool)
        self.rest(np.arange(len(seeds), self.rows))
        return np.asarray(frames[: len(seeds)])

    def step(self, rows: np.ndarray, actions: np.ndarray) -> Steps:
        every = np.repeat(actions[:1], self.rows, axis=0)  # the other rows are resting
        every[rows] = actions
        with self._named_errors():
            frames, rewards, terminated, truncated, _ = self.vector.step(every)
        self.resting |= terminated | truncated
        return frames[rows], np.asarray(rewards)[rows], terminated[rows], truncated[rows]

    def rest(self, rows: np.ndarray) -> None:
        self.resting[rows] = True
        with self._named_errors():
            self.vector.set_attr("resting", self.resting.tolist())

    def close(self) -> None:
        try:
            self.vector.close()
        except (EOFError, OSError):  # Ctrl-C reaches the processes, too
            self._end()

    def _end(self) -> None:
        """End the processes without a word: gymnasium would wait for the dead to answer."""
        for process in self.vector.processes:
            process.terminate()
            process.join()
        self.vector.closed = True

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Say in one sentence that an environment process died, and end the others."""
        try:
            yield
        except KeyboardInterrupt:
            self._end()
            raise
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            self._end()
            raise RuntimeError(
                f"a process of {self.env_name} died ({type(error).__name__}); finished episodes "
                "are kept: run the same command again (fewer workers, if memory ran out)"
            ) from error
