"""Many worlds, stepped together."""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from wmlib.envs import make_image_env
from wmlib.pixels import resize

__all__ = ["VectorImageEnv", "choose_backend", "make_vector_env"]

# Environments for which EnvPool was measured to look and to drive as Gymnasium's do.
ENVPOOL_TWINS = ("CarRacing-v3",)
# Games that are processes of their own, beside which this one must not be forked.
ENGINES = ("VizdoomTakeCover-v1",)
ENVPOOL_ROWS = 256  # episodes in one pool: about 4 MB each


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
    return _Idle(make_image_env(env_name, **kwargs))


def _make_worker(env_name: str, kwargs: dict[str, Any]) -> gym.Env[Any, Any]:
    """A row in a process of its own, which Ctrl-C ends without a word: the main one says it."""
    if multiprocessing.parent_process() is not None:  # gymnasium also makes one here, to look at
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    return _make_row(env_name, kwargs)


class VectorImageEnv(Protocol):
    """Many episodes side by side, each row with its own seed.

    Attributes:
        rows: Largest number of episodes at once.
        action_space: Of a single environment.
        backend: ``"gymnasium"`` or ``"envpool"``.
    """

    rows: int
    action_space: gym.Space[Any]
    backend: str

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Begin ``len(seeds)`` episodes; frames (N, 64, 64, 3) uint8."""
        ...

    def step(
        self, rows: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step these rows: frames, rewards, terminated, truncated, in the order given.

        The others must have ended, or been put to rest.
        """
        ...

    def rest(self, rows: np.ndarray) -> None:
        """Rows that nobody will step again before the next reset."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


class _GymnasiumVector:
    """Gymnasium's own vector environment; one process per row, unless there is only one row."""

    backend = "gymnasium"

    def __init__(self, env_name: str, rows: int, kwargs: dict[str, Any]) -> None:
        self.rows, self.env_name = rows, env_name
        alone, mode = rows == 1, AutoresetMode.DISABLED
        make = functools.partial(_make_row if alone else _make_worker, env_name, kwargs)
        self.envs: SyncVectorEnv | AsyncVectorEnv = (
            SyncVectorEnv([make], autoreset_mode=mode)
            if alone
            else AsyncVectorEnv([make] * rows, autoreset_mode=mode)
        )
        self.action_space = self.envs.single_action_space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        padded = [*seeds, *[seeds[0]] * (self.rows - len(seeds))]
        with self._named_errors():
            frames, _ = self.envs.reset(seed=[int(seed) for seed in padded])
        self.resting = np.zeros(self.rows, dtype=bool)
        self.rest(np.arange(len(seeds), self.rows))
        return np.asarray(frames[: len(seeds)])

    def step(
        self, rows: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        every = np.repeat(actions[:1], self.rows, axis=0)  # the other rows are resting
        every[rows] = actions
        with self._named_errors():
            frames, rewards, terminated, truncated, _ = self.envs.step(every)
        self.resting |= terminated | truncated
        return frames[rows], np.asarray(rewards)[rows], terminated[rows], truncated[rows]

    def rest(self, rows: np.ndarray) -> None:
        self.resting[rows] = True
        with self._named_errors():
            self.envs.set_attr("resting", self.resting.tolist())

    def close(self) -> None:
        try:
            self.envs.close()
        except (EOFError, OSError):  # Ctrl-C reaches the processes, too
            self._end()

    def _end(self) -> None:
        """End the processes without a word: gymnasium would wait for the dead to answer."""
        for process in getattr(self.envs, "processes", ()):
            process.terminate()
            process.join()
        self.envs.closed = True

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


class _EngineVector:
    """Games that are processes of their own, stepped from this one: it needs no further ones."""

    backend = "gymnasium"

    def __init__(self, env_name: str, rows: int, kwargs: dict[str, Any]) -> None:
        self.rows = rows
        self.envs = [make_image_env(env_name, **kwargs) for _ in range(rows)]
        self.action_space = self.envs[0].action_space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        pairs = zip(self.envs, seeds, strict=False)
        return np.stack([env.reset(seed=int(seed))[0] for env, seed in pairs])

    def step(
        self, rows: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        steps = [self.envs[row].step(action)[:4] for row, action in zip(rows, actions, strict=True)]
        frames, rewards, terminated, truncated = zip(*steps, strict=True)
        return np.stack(frames), np.array(rewards), np.array(terminated), np.array(truncated)

    def rest(self, rows: np.ndarray) -> None: ...

    def close(self) -> None:
        for env in self.envs:
            env.close()


class _EnvPoolVector:
    """EnvPool's threads. It takes seeds when made, so each reset makes a new pool (0.1 s)."""

    backend = "envpool"

    def __init__(self, env_name: str, rows: int) -> None:
        self.env_name, self.rows = env_name, rows
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the precision of box bounds
            self.action_space = self._pool([0]).action_space

    def _pool(self, seeds: Sequence[int]) -> Any:
        import envpool  # 0.7 s and optional

        return envpool.make(
            self.env_name,
            env_type="gymnasium",
            num_envs=len(seeds),
            seed=[int(seed) for seed in seeds],
            num_threads=min(len(seeds), os.cpu_count() or 1),
        )

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        self.pool = self._pool(seeds)
        frames, _ = self.pool.reset()
        return resize(frames)

    def step(
        self, rows: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        self.pool.send(np.ascontiguousarray(actions), rows.astype(np.int32))
        frames, rewards, terminated, truncated, info = self.pool.recv()
        order = np.argsort(info["env_id"])[np.argsort(np.argsort(rows))]
        return resize(frames[order]), rewards[order], terminated[order], truncated[order]

    def rest(self, rows: np.ndarray) -> None: ...

    def close(self) -> None:
        self.pool = None


def choose_backend(
    env_name: str, backend: str = "auto", kwargs: dict[str, Any] | None = None
) -> str:
    """``"envpool"`` where it is installed and agrees with Gymnasium, otherwise ``"gymnasium"``.

    Raises:
        ValueError: If EnvPool is asked for and cannot serve.
    """
    if backend not in ("auto", "gymnasium", "envpool"):
        raise ValueError(f"backend must be auto, gymnasium or envpool, found {backend!r}")
    installed = importlib.util.find_spec("envpool") is not None
    serves = installed and env_name in ENVPOOL_TWINS and not kwargs
    if backend == "envpool" and not serves:
        why = f"it serves {ENVPOOL_TWINS} only" if installed else "install the extra wmlib[fast]"
        raise ValueError(f"backend 'envpool' cannot run {env_name} {kwargs or ''}: {why}")
    return "envpool" if serves and backend != "gymnasium" else "gymnasium"


def make_vector_env(
    env_name: str,
    episodes: int,
    backend: str = "auto",
    max_workers: int = 32,
    env_kwargs: dict[str, Any] | None = None,
) -> VectorImageEnv:
    """A vector environment for up to ``episodes`` rows at once.

    Args:
        env_name: Gymnasium id or ``module:Id``.
        episodes: How many episodes there are to play.
        backend: ``"auto"``, ``"gymnasium"`` or ``"envpool"``.
        max_workers: Cap on environment processes.
        env_kwargs: Further arguments of the environment, such as ``{"continuous": False}``.
    """
    if choose_backend(env_name, backend, env_kwargs) == "envpool":
        return _EnvPoolVector(env_name, min(episodes, ENVPOOL_ROWS))
    # A few processes per core keep it busy when some episodes of a wave have ended.
    rows = max(1, min(episodes, max_workers, 8 * (os.cpu_count() or 1)))
    if env_name in ENGINES:
        return _EngineVector(env_name, rows, env_kwargs or {})
    return _GymnasiumVector(env_name, rows, env_kwargs or {})
