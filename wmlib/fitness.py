"""What a population of controllers is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from wmlib.agent import Agent
from wmlib.collect import play
from wmlib.devices import every_gpu
from wmlib.policies import Policy
from wmlib.vector_envs import VectorImageEnv, make_vector_env

__all__ = ["Evaluator", "LocalEvaluator", "Scores", "play_returns"]


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


def play_returns(
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
        devices: Where to compute, the episodes split among them; by default where the agent is,
            and all GPUs if it is on "cuda".
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
        devices: Sequence[str] = (),
    ) -> None:
        names = devices or every_gpu(agent.device)
        agents = [agent] if len(names) == 1 and not devices else [agent.on(name) for name in names]
        workers = max(1, max_workers // len(agents))
        self.patience = patience

        def make(rows: int) -> VectorImageEnv:
            return make_vector_env(env_name, rows, backend, workers, env_kwargs)

        self.lanes = [_Lane(agent, make, time_limit, step_cost) for agent in agents]

    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        """See ``Evaluator``."""
        parameters = np.repeat(population, len(seeds), axis=0)
        everyone = np.tile(np.asarray(seeds, dtype=np.int64), len(population))
        shares = np.array_split(np.arange(len(everyone)), min(len(self.lanes), len(everyone)))
        lanes = self.lanes[: len(shares)]
        for lane, share in zip(lanes, shares, strict=True):
            lane.prepare(len(share))  # before there are threads: processes may be forked
        patience = 0 if final else self.patience
        with ThreadPoolExecutor(len(lanes)) as pool:
            played = list(
                pool.map(
                    lambda lane, share: lane.play(parameters[share], everyone[share], patience),
                    lanes,
                    shares,
                )
            )
        returns = np.concatenate([part[0] for part in played])
        steps = int(sum(part[1].sum() for part in played))
        return Scores(returns.reshape(len(population), len(seeds)), steps)

    def close(self) -> None:
        """End the environments."""
        for lane in self.lanes:
            lane.close()


class _Lane:
    """One agent on one device, with environments of its own."""

    def __init__(
        self,
        agent: Agent,
        make: Callable[[int], VectorImageEnv],
        time_limit: int,
        step_cost: float,
    ) -> None:
        self.agent, self.make = agent, make
        self.time_limit, self.step_cost = time_limit, step_cost
        self.envs: VectorImageEnv | None = None
        self.room = 0

    def prepare(self, episodes: int) -> None:
        """Have environments for so many episodes, or as many as there may be.

        They are kept: starting processes costs more than a short generation.
        """
        if episodes > self.room:
            self.close()
            self.envs, self.room = self.make(episodes), episodes

    def play(
        self, parameters: np.ndarray, seeds: np.ndarray, patience: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns and steps driven, each (N,), of an episode for each row of parameters."""
        assert self.envs is not None
        waves = -(-len(seeds) // self.envs.rows)  # of equal size, so that no batch is thin
        parts = []
        for wave in np.array_split(np.arange(len(seeds)), waves):
            self.agent.assign(parameters[wave])
            limits = (self.time_limit, patience, self.step_cost)
            parts.append(play_returns(self.envs, self.agent, seeds[wave].tolist(), *limits))
        self.agent.assign(None)  # who uses the agent next means its own controller
        returns, steps = map(np.concatenate, zip(*parts, strict=True))
        return returns, steps

    def close(self) -> None:
        if self.envs is not None:
            self.envs.close()
            self.envs, self.room = None, 0
