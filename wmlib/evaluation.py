"""Did it work, and would we know?"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
from tqdm.auto import tqdm

from wmlib.agent import Agent
from wmlib.collect import play
from wmlib.devices import hardware
from wmlib.envs import episode_seed
from wmlib.policies import Policy, make_policy
from wmlib.vector_envs import VectorImageEnv, make_vector_env

__all__ = ["Evaluator", "LocalEvaluator", "Scores", "evaluate", "summarise"]

REPORTED = ("torch", "gymnasium", "numpy", "cma")


@dataclass
class Scores:
    """What a population got.

    Attributes:
        returns: (P, E), a row per candidate, a column per episode.
        steps: Environment steps that were driven.
    """

    returns: np.ndarray
    steps: int


class Evaluator(Protocol):
    """Anything that can score a population: the world, a dream, a cluster."""

    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        """Play one episode per candidate and seed.

        Args:
            population: Flat parameters (P, n).
            seeds: The episodes (E,), the same ones for every candidate.
            final: Whether to play every episode to its end.
        """
        ...

    def close(self) -> None:
        """Free what was held."""
        ...


def _returns(
    envs: VectorImageEnv,
    policy: Policy,
    seeds: Sequence[int],
    time_limit: int,
    patience: int = 0,
    step_cost: float = 0.0,
    on_end: Callable[[int], Any] = lambda ended: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Undiscounted returns and steps driven, each (N,), of one episode per seed.

    An episode that patience ended is charged ``step_cost`` for every step it did not drive, so
    that standing still never pays.
    """
    returns, steps = np.zeros(len(seeds)), np.zeros(len(seeds), dtype=np.int64)
    for step in play(envs, policy, seeds, time_limit, patience):
        returns[step.rows] += step.rewards
        steps[step.rows] += 1
        stopped = step.rows[step.impatient]
        returns[stopped] -= step_cost * (time_limit - steps[stopped])
        ended = int((step.terminated | step.truncated).sum())
        if ended:
            on_end(ended)
    return returns, steps


class LocalEvaluator:
    """Scores a population on this machine, all its episodes in as few batches as they fit.

    Args:
        agent: Acts for every candidate in turn.
        env_name: Gymnasium id or ``module:Id``.
        time_limit: Longest episode in steps.
        patience: See ``play``; not used when ``final``.
        step_cost: Charge for a step not driven.
        backend: See ``make_vector_env``.
        max_workers: Cap on environment processes.
        env_kwargs: Further arguments of the environment.
    """

    def __init__(
        self,
        agent: Agent,
        env_name: str,
        time_limit: int = 1000,
        patience: int = 0,
        step_cost: float = 0.1,
        backend: str = "auto",
        max_workers: int = 32,
        env_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.agent, self.time_limit = agent, time_limit
        self.patience, self.step_cost = patience, step_cost
        self._make: Callable[[int], VectorImageEnv] = lambda rows: make_vector_env(
            env_name, rows, backend, max_workers, env_kwargs
        )
        self.envs: VectorImageEnv | None = None

    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        """See ``Evaluator``."""
        parameters = np.repeat(population, len(seeds), axis=0)
        everyone = list(seeds) * len(population)
        if self.envs is None:  # kept: starting processes costs more than a short generation
            self.envs = self._make(len(everyone))
        waves = -(-len(everyone) // self.envs.rows)  # of equal size, so that no batch is thin
        returns, steps = [], 0
        for wave in np.array_split(np.arange(len(everyone)), waves):
            self.agent.assign(parameters[wave])
            patience = 0 if final else self.patience
            got, driven = _returns(
                self.envs, self.agent, [everyone[i] for i in wave],
                self.time_limit, patience, self.step_cost,
            )  # fmt: skip
            returns.append(got)
            steps += int(driven.sum())
        self.agent.assign(None)  # who uses the agent next means its own controller
        return Scores(np.concatenate(returns).reshape(len(population), len(seeds)), steps)

    def close(self) -> None:
        """End the environments."""
        if self.envs is not None:
            self.envs.close()
            self.envs = None


def evaluate(
    agent: Policy | str,
    env_name: str = "CarRacing-v3",
    episodes: int = 100,
    seed: int = 0,
    time_limit: int = 1000,
    backend: str = "gymnasium",
    max_workers: int = 32,
    env_kwargs: dict[str, Any] | None = None,
    name: str = "agent",
    display: bool = False,
) -> dict[str, Any]:
    """Full episodes on fresh tracks, none of which was ever trained or selected on.

    Args:
        agent: An ``Agent``, or any policy of ``make_policy``.
        env_name: Gymnasium id or ``module:Id``.
        episodes: How many.
        seed: Which tracks.
        time_limit: Longest episode in steps.
        backend: Gymnasium's own environment by default: it is what a score is about.
        max_workers: Cap on environment processes.
        env_kwargs: Further arguments of the environment.
        name: What the row is called.
        display: Show progress.

    Returns:
        A row for a report: every return, ``mean``, ``std``, ``ci95`` (half the width of the
        normal 95 % interval of the mean), and what it was measured with.

    Raises:
        ValueError: If there is nothing to play, or the agent acts in another action space.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, found {episodes}")
    envs = make_vector_env(env_name, episodes, backend, max_workers, env_kwargs)
    seeds = [episode_seed("evaluate", seed, i) for i in range(episodes)]
    bar = tqdm(total=episodes, desc="evaluation", unit="episode", disable=not display)
    try:
        policy = make_policy(agent, envs.action_space, time_limit)
        if isinstance(agent, Agent) and agent.action_map.space != envs.action_space:
            raise ValueError(
                f"the agent acts in {agent.action_map.space}, {env_name} wants "
                f"{envs.action_space}: evaluate it where it was trained"
            )
        waves = -(-episodes // envs.rows)
        parts = [
            _returns(envs, policy, list(wave), time_limit, on_end=bar.update)[0]
            for wave in np.array_split(np.array(seeds), waves)
        ]
    finally:
        bar.close()
        envs.close()
    row = {"agent": name, "env_id": env_name, "backend": envs.backend, "seed": seed}
    return row | summarise(np.concatenate(parts))


def summarise(returns: np.ndarray) -> dict[str, Any]:
    """Statistics of returns (N,) and what they were measured with, as a report's row has them."""
    count = len(returns)
    std = float(returns.std(ddof=1)) if count > 1 else 0.0
    versions = {package: version(package) for package in REPORTED}
    return {
        "episodes": count,
        "mean": round(float(returns.mean()), 3),
        "std": round(std, 3),
        "ci95": round(1.96 * std / count**0.5, 3),
        "returns": [round(float(value), 3) for value in returns],
        "versions": {"python": platform.python_version(), **versions},
        "hardware": hardware(),
    }
