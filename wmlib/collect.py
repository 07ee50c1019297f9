"""Let a policy play, and write it down."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from wmlib.checkpoints import check_room, check_settings, locked
from wmlib.envs import TIME_LIMIT, ActionMap, episode_seed
from wmlib.policies import Policy, make_policy
from wmlib.rollouts import Rollout, rollout_origin, save_rollout
from wmlib.vector_envs import VectorImageEnv, make_vector_env

FRAME_BYTES = 1800  # on disk, of CarRacing's: 1,200 to 1,500, and later its latents
WAVE = 64  # episodes collected at once; 1,000 frames of each take 0.8 GB


@dataclass
class Step:
    """One step of the episodes still running: ``frames --actions--> next_frames``."""

    rows: np.ndarray  # (n,) which episodes
    frames: np.ndarray  # (n, 64, 64, 3) uint8, before the action
    actions: np.ndarray  # (n, A) float32, as executed (discrete: one-hot)
    rewards: np.ndarray  # (n,)
    terminated: np.ndarray  # (n,) bool, ended by the environment
    truncated: np.ndarray  # (n,) bool, ended by a limit of time or patience
    impatient: np.ndarray  # (n,) bool, ended by patience
    next_frames: np.ndarray  # (n, 64, 64, 3) uint8, after the action


def play(
    envs: VectorImageEnv, policy: Policy, seeds: Sequence[int], time_limit: int, patience: int = 0
) -> Iterator[Step]:
    """Play one episode per seed, all side by side; those that end leave the batch.

    Args:
        envs: Has at least ``len(seeds)`` rows.
        time_limit: Steps after which an episode is truncated.
        patience: Steps without a positive reward after which it is truncated too (0: never).

    Yields:
        What happened, step by step; FloatingPointError if a reward is no number.
    """
    action_map = ActionMap(envs.action_space)
    frames, rows = envs.reset(seeds), np.arange(len(seeds))
    policy.start(seeds)
    last_reward = np.full(len(seeds), -1)
    for t in range(time_limit):
        actions = policy.act(frames, rows)
        next_frames, rewards, terminated, truncated = envs.step(rows, action_map.to_env(actions))
        if not np.isfinite(rewards).all():
            raise FloatingPointError(f"step {t + 1} paid {rewards}, no number: mend the game")
        last_reward[rows[rewards > 0]] = t
        truncated = (truncated | (t + 1 == time_limit)) & ~terminated
        impatient = (t - last_reward[rows] >= patience) & (patience > 0) & ~(terminated | truncated)
        truncated |= impatient
        yield Step(rows, frames, actions, rewards, terminated, truncated, impatient, next_frames)
        going = ~(terminated | truncated)
        if not going.all():
            envs.rest(rows[~going])
        rows, frames = rows[going], next_frames[going]
        if not len(rows):
            return


def generate_rollouts(
    data_dir: str | os.PathLike[str],
    env_name: str,
    num_rollouts: int = 1000,
    seq_len: int = TIME_LIMIT,
    num_workers: int = 8,
    seed: int = 0,
    policy: str | Callable[[np.ndarray], Any] | Policy = "random",
    backend: str = "auto",
    env_kwargs: dict[str, Any] | None = None,
    display: bool = True,
    part: Sequence[int] | None = None,
) -> list[Path]:
    """Collect ``rollout_000000.npz`` … in ``data_dir``; a second call adds what is missing.

    Each file's episode follows from ``seed`` and its number alone.

    Args:
        num_rollouts: How many files there shall be.
        seq_len: Longest episode in steps.
        num_workers, seed: Cap on environment processes; seed of the whole set.
        policy: See ``make_policy``.
        env_name, backend, env_kwargs: See ``make_vector_env``.
        display: Show progress.
        part: Numbers of the files to see to, where machines share the work; all by default.

    Returns:
        The paths of these files, in order. ValueError if one that is there holds another episode
        than this call would collect.
    """
    if num_rollouts < 1 or seq_len < 1:
        raise ValueError(f"num_rollouts {num_rollouts} and seq_len {seq_len} must be positive")
    files = rollout_paths(data_dir, range(num_rollouts) if part is None else part)
    missing = missing_rollouts(files, env_name, seed)
    if not missing:
        return list(files.values())
    check_room(data_dir, FRAME_BYTES * seq_len * len(missing), surely=False)
    envs = make_vector_env(env_name, min(len(missing), WAVE), backend, num_workers, env_kwargs)
    bar = tqdm(total=len(missing), desc="rollouts", unit="episode", disable=not display)
    # Written beside the playing: compression needs no interpreter.
    with closing(envs), bar, locked(data_dir), ThreadPoolExecutor(os.cpu_count()) as writers:
        player = make_policy(policy, envs.action_space, seq_len)
        for first in range(0, len(missing), envs.rows):
            indices = missing[first : first + envs.rows]
            seeds = [episode_seed("collect", seed, i) for i in indices]
            writing = []
            for row, rollout in _record(play(envs, player, seeds, seq_len)):
                rollout.seed, rollout.env_id = seeds[row], f"{env_name} ({envs.backend})"
                writing.append(writers.submit(save_rollout, files[indices[row]], rollout))
            for written in writing:
                written.result()
                bar.update()
    return list(files.values())


def rollout_paths(data_dir: str | os.PathLike[str], numbers: Iterable[int]) -> dict[int, Path]:
    """Where the rollouts with these numbers are, or will be."""
    return {i: Path(data_dir) / f"rollout_{i:06d}.npz" for i in numbers}


def missing_rollouts(files: dict[int, Path], env_name: str, seed: int) -> list[int]:
    """Which of the files are still to be collected; the others must be what this would give."""
    there = [i for i, path in files.items() if path.exists()]
    for i in there:
        recorded = dict(zip(("env_name", "seed"), rollout_origin(files[i]), strict=True))
        wanted = {"env_name": env_name.rpartition(":")[2], "seed": episode_seed("collect", seed, i)}
        if recorded != {"env_name": "", "seed": -1}:  # other people's files do not say
            check_settings(files[i], recorded, wanted)
    return sorted(files.keys() - there)


def _record(steps: Iterator[Step]) -> Iterator[tuple[int, Rollout]]:
    """Turn steps into rollouts, each given out as its episode ends."""
    kept: dict[int, list[tuple[Any, ...]]] = {}
    for s in steps:
        ended = s.terminated | s.truncated
        taken = zip(s.frames, s.actions, s.rewards, s.terminated, strict=True)
        for i, (row, columns) in enumerate(zip(s.rows.tolist(), taken, strict=True)):
            kept.setdefault(row, []).append(columns)
            if ended[i]:
                frames, *others = map(np.array, zip(*kept.pop(row), strict=True))
                actions, rewards, terminals = (part.astype(np.float32) for part in others)
                last, cut = s.next_frames[i], bool(s.truncated[i])
                yield row, Rollout(frames, actions, rewards, terminals, last, cut)
