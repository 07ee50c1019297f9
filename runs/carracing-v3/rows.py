"""Laps, and what a report says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmlib.checkpoints import check_settings, read_json, write_json
from wmlib.evaluation import summarise
from wmlib.evaluators import play_returns
from wmlib.policies import Policy, make_policy
from wmlib.vector_envs import choose_backend, make_vector_env

FAILED = 800  # a lap below this was lost somewhere
WAVE = 64  # laps side by side, where the game allows as many


def drive(
    path: Path,
    policy: Policy | str,
    env_name: str,
    seeds: Sequence[int],
    backend: str = "gymnasium",
    time_limit: int = 1000,
) -> dict[str, Any]:
    """Whole laps, one per seed; those in ``path`` are not driven again.

    Returns:
        ``returns`` and ``steps`` (N,), the ``seeds``, and which game it was, ``backend``.

    Raises:
        ValueError: If ``path`` holds laps on other tracks, or in another game.
    """
    backend = choose_backend(env_name, backend)
    asked = {"backend": backend, "time_limit": time_limit, "seeds": [int(seed) for seed in seeds]}
    laps: dict[str, Any] = asked | {"returns": [], "steps": []}
    if path.exists():
        laps = read_json(path, *laps)
        check_settings(path, laps, asked)
    if len(laps["returns"]) < len(seeds):
        envs = make_vector_env(env_name, min(WAVE, len(seeds)), backend)
        try:
            player = make_policy(policy, envs.action_space, time_limit)
            while left := list(seeds[len(laps["returns"]) :][: envs.rows]):
                returns, steps = play_returns(envs, player, left, time_limit)
                laps["returns"] += returns.round(3).tolist()
                laps["steps"] += steps.tolist()
                write_json(path, laps)
        finally:
            envs.close()
    return laps


def lap_row(name: str, env_name: str, seed: int, laps: dict[str, Any]) -> dict[str, Any]:
    """A report's row about laps of one agent.

    Args:
        name: What the row is called.
        env_name: Gymnasium id.
        seed: Of *evaluate*, from which the tracks follow.
        laps: What ``drive`` gives.

    Returns:
        ``summarise``'s row and ``tails``', with ``steps_per_lap``.
    """
    returns = np.array(laps["returns"])
    row = {"agent": name, "env_id": env_name, "backend": laps["backend"], "seed": seed}
    steps = {"steps_per_lap": round(float(np.mean(laps["steps"])), 1)}
    return row | summarise(returns) | tails(returns) | steps


def tails(returns: np.ndarray) -> dict[str, float]:
    """What a mean does not say: the 10th percentile, the share of lost laps, the worst lap."""
    return {
        "p10": round(float(np.quantile(returns, 0.1)), 3),
        "below_800": round(float((returns < FAILED).mean()), 4),
        "worst": round(float(returns.min()), 3),
    }


def seeds_row(
    name: str, env_name: str, backend: str, seed: int, returns: np.ndarray, env_steps: list[int]
) -> dict[str, Any]:
    """A report's row about several searches of one kind, all tested on the same tracks.

    Args:
        name: What the row is called.
        env_name: Gymnasium id.
        backend: Where they were tested.
        seed: Of *evaluate*.
        returns: (N, E), a row per search.
        env_steps: What each search took, (N,).

    Returns:
        As for one agent, but ``seeds`` is N, ``means`` are the searches' own, ``std`` is theirs,
        and ``ci95`` half the width of their mean's normal 95 % interval: searches are what was
        drawn, not laps. ``returns`` has all laps, search after search.
    """
    means = returns.mean(axis=1)
    std = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    between = {
        "seeds": len(means),
        "means": [round(float(value), 3) for value in means],
        "std": round(std, 3),
        "ci95": round(1.96 * std / len(means) ** 0.5, 3),
        "env_steps": env_steps,
    }
    row = {"agent": name, "env_id": env_name, "backend": backend, "seed": seed}
    return row | summarise(returns.ravel()) | tails(returns.ravel()) | between
