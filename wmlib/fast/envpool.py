"""EnvPool's CarRacing: some twenty times as fast as Gymnasium's, and nearly the same pictures."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from wmlib.pixels import resize
from wmlib.vector_envs import VectorImageEnv

__all__ = ["EnvPoolVector", "why_not"]

# Environments for which EnvPool's pictures and physics were compared with Gymnasium's.
TWINS = ("CarRacing-v3",)
ROWS = 256  # episodes in one pool: about 4 MB each


def why_not(env_name: str, kwargs: dict[str, Any] | None) -> str:
    """What keeps EnvPool from running an environment; empty if nothing does."""
    if importlib.util.find_spec("envpool") is None:
        return "install the extra wmlib[fast]"
    return "" if env_name in TWINS and not kwargs else f"it serves {TWINS} only"


class EnvPoolVector(VectorImageEnv):
    """Many episodes in EnvPool's threads: see ``VectorImageEnv``.

    It takes seeds when made, so each reset makes a new pool (0.1 s).
    """

    backend = "envpool"

    def __init__(self, env_name: str, rows: int) -> None:
        self.env_name, self.rows = env_name, min(rows, ROWS)
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
