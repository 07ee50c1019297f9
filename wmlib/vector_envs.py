"""Many worlds, stepped together."""

import os
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from wmlib.devices import faster
from wmlib.envs import TAKE_COVER, make_image_env

BACKENDS = ("auto", "gymnasium", "envpool")
Steps = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class VectorImageEnv:
    """Many episodes side by side, each row with its own seed; here one row after the other.

    Args:
        env_name: Gymnasium id or ``module:Id``.
        rows: Largest number of episodes at once.
        kwargs: Further arguments of the environment.

    Attributes:
        action_space, backend: Of one environment; ``"gymnasium"`` or ``"envpool"``.
    """

    backend = "gymnasium"
    rows: int
    action_space: gym.Space[Any]

    def __init__(self, env_name: str, rows: int, kwargs: dict[str, Any]) -> None:
        self.rows, self.envs = rows, [make_image_env(env_name, **kwargs) for _ in range(rows)]
        self.action_space = self.envs[0].action_space

    def reset(self, seeds: Sequence[int]) -> np.ndarray:
        """Begin ``len(seeds)`` episodes; frames (N, 64, 64, 3) uint8."""
        pairs = zip(self.envs[: len(seeds)], seeds, strict=True)
        return np.stack([env.reset(seed=int(seed))[0] for env, seed in pairs])

    def step(self, rows: np.ndarray, actions: np.ndarray) -> Steps:
        """Step these rows: frames, rewards, terminated, truncated, in the order given.

        The others must have ended, or been put to rest.
        """
        taken = [self.envs[r].step(a)[:4] for r, a in zip(rows, actions, strict=True)]
        frames, rewards, terminated, truncated = map(np.array, zip(*taken, strict=True))
        return frames, rewards.astype(float), terminated, truncated

    def rest(self, rows: np.ndarray) -> None:
        """Rows that nobody will step again before the next reset."""

    def close(self) -> None:
        """End the environments."""
        for env in self.envs:
            env.close()


def choose_backend(
    env_name: str, backend: str = "auto", kwargs: dict[str, Any] | None = None
) -> str:
    """``"envpool"`` where it is installed and agrees with Gymnasium, otherwise ``"gymnasium"``.

    Raises ValueError if EnvPool is asked for and cannot serve.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, found {backend!r}")
    room = faster("envpool")
    obstacle = room.why_not(env_name, kwargs) if room else "wmlib.fast is not there"
    if backend == "envpool" and obstacle:
        raise ValueError(f"backend 'envpool' cannot run {env_name} {kwargs or ''}: {obstacle}")
    return "gymnasium" if obstacle or backend == "gymnasium" else "envpool"


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
        pool: VectorImageEnv = faster("envpool").EnvPoolVector(env_name, episodes)
        return pool
    # A few processes per core keep it busy when some episodes of a wave have ended.
    rows = max(1, min(episodes, max_workers, 8 * (os.cpu_count() or 1)))
    # Doom's engines are processes of their own, beside which this one must not be forked.
    processes = faster("processes") if rows > 1 and env_name != TAKE_COVER else None
    make: type[VectorImageEnv] = processes.Processes if processes else VectorImageEnv
    return make(env_name, rows, env_kwargs or {})
