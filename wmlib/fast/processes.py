"""Gymnasium's environments in processes of their own, all stepped at once."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from wmlib.envs import make_image_env
from wmlib.vector_envs import Steps, VectorImageEnv

PATIENCE = 60.0  # seconds after which a process that does not answer is ended
FAREWELL = 5.0  # seconds that processes have to close their environments
LIVES = 3  # times that the processes of a wave may die before it is given up
DEATH_SIGNAL = 1  # what Linux's prctl calls it
LOST = (EOFError, BrokenPipeError, ConnectionResetError, multiprocessing.TimeoutError)


class _Idle(gym.Wrapper[Any, Any, Any, Any]):
    """Rests after its episode's end: a vector environment steps all rows or none."""

    resting = False

    def __init__(self, env: gym.Env, row: int) -> None:
        super().__init__(env)
        self.row = row

    def rest(self, resting: list[bool]) -> None:
        self.resting = resting[self.row]

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


def _make_row(env_name: str, kwargs: dict[str, Any], parent: int, row: int) -> _Idle:
    """A row in a process of its own, which ends without a word, and not after its parent."""
    if multiprocessing.parent_process() is not None:  # gymnasium also makes one here, to look at
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if sys.platform == "linux" and parent:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() != parent:  # it died before this was asked for
                os._exit(1)
    return _Idle(make_image_env(env_name, **kwargs), row)


class _Vector(AsyncVectorEnv):
    """Gymnasium's, whose answers are waited for no longer than ``PATIENCE``."""

    def _check_spaces(self) -> None:
        """All rows are one and the same environment; and this would wait for ever."""

    def _raise_if_errors(self, successes: Any) -> None:
        """Gymnasium's, which would print the whole traceback first."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            super()._raise_if_errors(successes)

    def rest(self, resting: list[bool]) -> None:
        self.call_async("rest", resting)
        self.call_wait(PATIENCE)

    def reset(self, **kwargs: Any) -> Any:
        self.reset_async(**kwargs)
        return self.reset_wait(PATIENCE)

    def step(self, actions: np.ndarray) -> Any:
        self.step_async(actions)
        return self.step_wait(PATIENCE)


class Processes(VectorImageEnv):
    """Gymnasium's own vector environment, one process per row: see ``VectorImageEnv``.

    A process that dies, or does not answer for ``PATIENCE`` seconds, is ended together with the
    others. All are replaced, and what they have played since the last reset is played again, from
    its seeds and by its actions: nothing differs from a run in which nothing died.
    """

    backend = "gymnasium"

    def __init__(self, env_name: str, rows: int, kwargs: dict[str, Any]) -> None:
        self.rows, self.env_name, self.kwargs = rows, env_name, kwargs
        self.vector: _Vector | None = None
        self.asked: list[Callable[[_Vector], Any]] = []  # since the last reset
        self.lives = LIVES
        cv2.setNumThreads(0)  # OpenCV's thread pool would not survive the fork
        self.action_space = self._ask(lambda vector: vector.single_action_space)

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        padded = [int(seed) for seed in (*seeds, *[seeds[0]] * (self.rows - len(seeds)))]
        self.asked, self.lives = [], LIVES
        frames, _ = self._ask(lambda vector: vector.reset(seed=padded))
        self.resting = np.zeros(self.rows, dtype=bool)
        self.rest(np.arange(len(seeds), self.rows))
        return np.asarray(frames[: len(seeds)])

    def step(self, rows: np.ndarray, actions: np.ndarray) -> Steps:
        every = np.repeat(actions[:1], self.rows, axis=0)  # the other rows are resting
        every[rows] = actions
        frames, rewards, terminated, truncated, _ = self._ask(lambda vector: vector.step(every))
        self.resting |= terminated | truncated
        return frames[rows], np.asarray(rewards)[rows], terminated[rows], truncated[rows]

    def rest(self, rows: np.ndarray) -> None:
        self.resting[rows] = True
        resting = self.resting.tolist()
        self._ask(lambda vector: vector.rest(resting))

    def close(self) -> None:
        if self.vector is not None:
            for pipe in self.vector.parent_pipes:
                with contextlib.suppress(OSError):  # Ctrl-C reaches the processes, too
                    pipe.send(("close", None))
            for process in self.vector.processes:
                process.join(FAREWELL)
        self._end()

    def _ask(self, question: Callable[[_Vector], Any]) -> Any:
        """The answer of the processes, or of those that stand in for them."""
        while True:
            try:
                if self.vector is None:
                    self.vector = self._start()
                    for earlier in self.asked:
                        earlier(self.vector)
                answer = question(self.vector)
            except LOST as error:
                self._end()
                self.lives -= 1
                if not self.lives:
                    raise RuntimeError(
                        f"a process of {self.env_name} died or hung ({type(error).__name__}), "
                        f"{LIVES} times in one wave of episodes; what was finished is kept: run "
                        "the same command again (fewer workers, if memory ran out)"
                    ) from error
                print(f"a process of {self.env_name} died or hung: replaced, its episodes replayed")
            except BaseException:  # Ctrl-C, or an error of the environment's own
                self._end()
                raise
            else:
                self.asked.append(question)
                return answer

    def _start(self) -> _Vector:
        # The death signal comes with the end of the thread that began the process.
        lasting = threading.current_thread() is threading.main_thread()
        make = functools.partial(
            _make_row, self.env_name, self.kwargs, os.getpid() if lasting else 0
        )
        rows = [functools.partial(make, row) for row in range(self.rows)]
        return _Vector(rows, autoreset_mode=AutoresetMode.DISABLED)

    def _end(self) -> None:
        """End the processes without a word: gymnasium would wait for the dead to answer."""
        if self.vector is not None:
            for process in self.vector.processes:
                process.kill()  # one that was stopped would not hear SIGTERM
                process.join()
            self.vector.closed, self.vector = True, None
