"""Let a policy play, and write it down."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm.auto import tqdm

from wmlib.controller import ActionMap
from wmlib.envs import VectorImageEnv, episode_seed, make_vector_env
from wmlib.rollouts import Rollout, save_rollout

__all__ = ["POLICIES", "Policy", "Step", "generate_rollouts", "make_policy", "play"]

WAVE = 64  # episodes collected at once; 1,000 frames of each take 0.8 GB


class Policy(Protocol):
    """What acts on a whole batch of episodes."""

    def start(self, seeds: Sequence[int]) -> None:
        """Begin ``len(seeds)`` episodes, each with its own stream of noise."""
        ...

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Told actions (n, A) float32 for frames (n, 64, 64, 3) of the episodes ``rows``."""
        ...


@dataclass
class Step:
    """One step of the episodes still running: ``frames --actions--> next_frames``.

    Attributes:
        rows: (n,) which episodes.
        frames: (n, 64, 64, 3) uint8, before the action.
        actions: (n, A) float32, as executed (discrete: one-hot).
        rewards: (n,).
        terminated: (n,) bool, ended by the environment.
        truncated: (n,) bool, ended by a limit of time or patience.
        next_frames: (n, 64, 64, 3) uint8, after the action.
    """

    rows: np.ndarray
    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_frames: np.ndarray


def play(
    envs: VectorImageEnv, policy: Policy, seeds: Sequence[int], time_limit: int, patience: int = 0
) -> Iterator[Step]:
    """Play one episode per seed, all side by side; those that end leave the batch.

    Args:
        envs: Has at least ``len(seeds)`` rows.
        policy: Sees the frames, gives the actions.
        seeds: The episodes' own seeds.
        time_limit: Steps after which an episode is truncated.
        patience: Steps without a positive reward after which it is truncated too (0: never).

    Yields:
        What happened, step by step.
    """
    action_map = ActionMap(envs.action_space)
    frames, rows = envs.reset(seeds), np.arange(len(seeds))
    policy.start(seeds)
    last_reward = np.full(len(seeds), -1)
    for t in range(time_limit):
        actions = policy.act(frames, rows)
        next_frames, rewards, terminated, truncated = envs.step(rows, action_map.to_env(actions))
        last_reward[rows[rewards > 0]] = t
        impatient = (t - last_reward[rows] >= patience) & (patience > 0)
        truncated = (truncated | impatient | (t + 1 == time_limit)) & ~terminated
        yield Step(rows, frames, actions, rewards, terminated, truncated, next_frames)
        going = ~(terminated | truncated)
        if not going.all():
            envs.rest(rows[~going])
        rows, frames = rows[going], next_frames[going]
        if not len(rows):
            return


def _random(rng: np.random.Generator, actions: ActionMap, steps: int) -> np.ndarray:
    """Independent uniform actions (T, A): what the environment's own ``sample`` gives."""
    actions.space.seed(int(rng.integers(2**31)))
    return actions.from_env(np.stack([actions.space.sample() for _ in range(steps)]))


def _brownian(rng: np.random.Generator, actions: ActionMap, steps: int) -> np.ndarray:
    """Smooth noise (T, A) in the space of C's outputs, around a centre drawn per episode.

    CarRacing's centres are such that the car gets about: some steering bias, 10 to 60 % gas, the
    brake on about 5 % of the steps.
    """
    if actions.is_car:
        gas = rng.uniform(0.1, 0.6)
        centre = np.array([rng.normal(0, 0.1), np.log(gas / (1 - gas)), -1.0])
        spread = np.array([0.3, 0.7, 0.6])
    else:
        centre, spread = rng.normal(0, 0.5, actions.size), np.ones(actions.size)
    memory, noise = 0.92, rng.standard_normal((steps, actions.size))
    for t in range(1, steps):  # first-order autoregression of unit variance
        noise[t] = memory * noise[t - 1] + np.sqrt(1 - memory**2) * noise[t]
    return actions(torch.as_tensor(centre + spread * noise)).numpy()


def _held(rng: np.random.Generator, actions: ActionMap, steps: int) -> np.ndarray:
    """Uniform actions (T, A), each held for 10 steps on average."""
    change = rng.random(steps) < 0.1
    return _random(rng, actions, int(change.sum()) + 1)[change.cumsum()]


POLICIES: dict[str, Callable[[np.random.Generator, ActionMap, int], np.ndarray]] = {
    "random": _random,
    "brownian": _brownian,
    "held": _held,
}


class _Planned:
    """A policy without eyes: each episode's actions are drawn when it starts."""

    def __init__(self, name: str, actions: ActionMap, steps: int) -> None:
        self.plan, self.actions, self.steps = POLICIES[name], actions, steps

    def start(self, seeds: Sequence[int]) -> None:
        plans = [self.plan(np.random.default_rng(s), self.actions, self.steps) for s in seeds]
        self.plans, self.t = np.stack(plans).astype(np.float32), 0  # (N, T, A)

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        self.t += 1
        return self.plans[rows, self.t - 1]


class _Called:
    """A reader's own function of one frame."""

    def __init__(self, function: Callable[[np.ndarray], Any], actions: ActionMap) -> None:
        self.function, self.actions = function, actions

    def start(self, seeds: Sequence[int]) -> None: ...

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return self.actions.from_env(np.stack([np.asarray(self.function(f)) for f in frames]))


def make_policy(
    policy: str | Callable[[np.ndarray], Any] | Policy, space: Any, steps: int
) -> Policy:
    """A batch policy from a name, a function of one frame, or what is one already.

    Args:
        policy: ``"random"``, ``"brownian"``, ``"held"``, ``frame -> action``, or an object with
            ``start`` and ``act``, such as an ``Agent``.
        space: The environment's action space.
        steps: Longest episode.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(policy, str) and policy in POLICIES:
        return _Planned(policy, ActionMap(space), steps)
    if hasattr(policy, "start") and hasattr(policy, "act"):
        return policy  # type: ignore[return-value]
    if callable(policy):
        return _Called(policy, ActionMap(space))
    raise ValueError(f"policy must be one of {sorted(POLICIES)} or a function, found {policy!r}")


def generate_rollouts(
    data_dir: str | os.PathLike[str],
    env_name: str,
    num_rollouts: int = 1000,
    seq_len: int = 1000,
    num_workers: int = 8,
    seed: int = 0,
    policy: str | Callable[[np.ndarray], Any] | Policy = "random",
    backend: str = "auto",
    env_kwargs: dict[str, Any] | None = None,
    display: bool = True,
) -> list[Path]:
    """Collect ``rollout_000000.npz`` … in ``data_dir``; a second call adds what is missing.

    Each file's episode follows from ``seed`` and its number alone, so the same call gives the
    same files.

    Args:
        data_dir: Folder for the files.
        env_name: Gymnasium id, or ``module:Id``.
        num_rollouts: How many files there shall be.
        seq_len: Longest episode in steps.
        num_workers: Cap on environment processes.
        seed: Seed of the whole set.
        policy: A name (``"random"``, ``"brownian"``, ``"held"``), a function of one frame, or a
            batch policy.
        backend: ``"auto"``, ``"gymnasium"`` or ``"envpool"``.
        env_kwargs: Further arguments of the environment.
        display: Show progress.

    Returns:
        The paths of all ``num_rollouts`` files, in order.
    """
    if num_rollouts < 1 or seq_len < 1:
        raise ValueError(f"num_rollouts {num_rollouts} and seq_len {seq_len} must be positive")
    files = [Path(data_dir) / f"rollout_{i:06d}.npz" for i in range(num_rollouts)]
    missing = [i for i, path in enumerate(files) if not path.exists()]
    if not missing:
        return files
    wave = min(len(missing), WAVE)
    envs = make_vector_env(env_name, wave, backend, num_workers, seq_len, env_kwargs)
    player = make_policy(policy, envs.action_space, seq_len)
    bar = tqdm(total=len(missing), desc="rollouts", unit="episode", disable=not display)
    try:
        for first in range(0, len(missing), envs.rows):
            indices = missing[first : first + envs.rows]
            seeds = [episode_seed("collect", seed, i) for i in indices]
            for row, rollout in _record(play(envs, player, seeds, seq_len)):
                rollout.seed, rollout.env_id = seeds[row], f"{env_name} ({envs.backend})"
                save_rollout(files[indices[row]], rollout)
                bar.update()
    finally:
        bar.close()
        envs.close()
    return files


def _record(steps: Iterator[Step]) -> Iterator[tuple[int, Rollout]]:
    """Turn steps into rollouts, each given out as its episode ends."""
    kept: dict[int, list[tuple[Any, ...]]] = {}
    for s in steps:
        columns = (s.rows, s.frames, s.actions, s.rewards, s.terminated, s.truncated, s.next_frames)
        for row, frame, action, reward, terminated, truncated, next_frame in zip(
            *columns, strict=True
        ):
            kept.setdefault(row, []).append((frame, action, reward, terminated))
            if terminated or truncated:
                frames, actions, rewards, terminals = zip(*kept.pop(row), strict=True)
                yield (
                    int(row),
                    Rollout(
                        np.stack(frames),
                        np.stack(actions).astype(np.float32),
                        np.array(rewards, dtype=np.float32),
                        np.array(terminals, dtype=np.float32),
                        next_frame,
                        bool(truncated),
                    ),
                )
