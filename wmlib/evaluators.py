"""What a population of controllers is worth, in the game and in the dream."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from wmlib.agent import Agent
from wmlib.collect import play
from wmlib.dream import Dream
from wmlib.envs import TIME_LIMIT
from wmlib.policies import Policy
from wmlib.rollouts import Rollout
from wmlib.vector_envs import VectorImageEnv, make_vector_env

STEP_COST = 0.1  # of a step not driven: what CarRacing charges for one that is


@dataclass
class Scores:
    """A population's returns (P, E), a row per candidate, and the environment steps driven."""

    returns: np.ndarray
    steps: int


class Evaluator(Protocol):
    """Anything that can score a population: the world, a dream, a cluster."""

    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        """Play the same episodes (E,) for every candidate, a row of flat parameters (P, n).

        If this is ``final``, every episode is played to its end.
        """

    def close(self) -> None:
        """Free what was held."""


def play_returns(
    envs: VectorImageEnv,
    policy: Policy,
    seeds: Sequence[int],
    time_limit: int,
    patience: int = 0,
    on_end: Callable[[int], Any] = lambda ended: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Undiscounted returns and steps driven, each (N,), of one episode per seed.

    They are played in as few waves as ``envs`` has rows for. An episode that patience ended is
    charged for every step it did not drive, so that standing still never pays.
    """
    returns, steps = np.zeros(len(seeds)), np.zeros(len(seeds), dtype=np.int64)
    for wave in waves(len(seeds), envs.rows):
        for step in play(envs, policy, [seeds[i] for i in wave], time_limit, patience):
            rows = wave[step.rows]
            returns[rows] += step.rewards
            steps[rows] += 1
            stopped = rows[step.impatient]
            returns[stopped] -= STEP_COST * (time_limit - steps[stopped])
            if ended := int((step.terminated | step.truncated).sum()):
                on_end(ended)
    return returns, steps


def waves(episodes: int, rows: int) -> list[np.ndarray]:
    """Numbers of episodes, at most ``rows`` at once, in waves of equal size: no batch is thin."""
    return np.array_split(np.arange(episodes), -(-episodes // rows))


@dataclass(eq=False)
class LocalEvaluator:
    """Scores a population on this machine, all its episodes in as few batches as they fit.

    Args:
        agent: Acts for every candidate in turn.
        time_limit: Longest episode in steps.
        patience: See ``play``; not used when ``final``.
        env_name, backend, max_workers, env_kwargs: See ``make_vector_env``.
    """

    agent: Agent
    env_name: str
    time_limit: int = TIME_LIMIT
    patience: int = 0
    backend: str = "auto"
    max_workers: int = 32
    env_kwargs: dict[str, Any] | None = None
    envs: VectorImageEnv | None = field(default=None, init=False)
    room: int = field(default=0, init=False)  # episodes for which environments were made

    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        """See ``Evaluator``."""
        parameters = np.repeat(population, len(seeds), axis=0)  # (P · E, n)
        everyone = np.tile(np.asarray(seeds, dtype=np.int64), len(population))  # (P · E,)
        if self.envs is None or len(everyone) > self.room:
            self.close()  # otherwise they are kept: processes start slowly
            options = (self.backend, self.max_workers, self.env_kwargs)
            self.envs = make_vector_env(self.env_name, len(everyone), *options)
            self.room = len(everyone)
        patience = 0 if final else self.patience
        parts = []
        for wave in waves(len(everyone), self.envs.rows):
            self.agent.assign(parameters[wave])
            own = everyone[wave].tolist()
            parts.append(play_returns(self.envs, self.agent, own, self.time_limit, patience))
        self.agent.assign(None)  # who uses the agent next means its own controller
        returns, steps = map(np.concatenate, zip(*parts, strict=True))
        return Scores(returns.reshape(len(population), len(seeds)), int(steps.sum()))

    def close(self) -> None:
        """End the environments."""
        if self.envs is not None:
            self.envs.close()
            self.envs = None


class DreamEvaluator:
    """Scores a population in M's dream: thousands of episodes in one batch, no environment.

    A seed is a real moment to start from and a stream of noise, the same ones for every candidate.
    A return is the sum of the rewards that M predicts. An episode ends when M gives its end at
    least ``end_probability``, and leaves the batch.

    Args:
        agent: V, M, and C's architecture.
        rollouts, temperature, burn_in: See ``Dream``. With τ above 1, what only works by exploiting
            M's mistakes pays less.
        time_limit: Longest episode in steps.
        end_probability: See above. Where M learned with a ``terminal_weight``, 0.5 is what is
            taken for the end; the step to it is paid, too.
        living_reward: What each step pays, where M does not predict rewards.

    Source: Ha & Schmidhuber (2018), section 4.
    """

    def __init__(
        self,
        agent: Agent,
        rollouts: list[Rollout],
        temperature: float = 1.0,
        burn_in: int = 30,
        time_limit: int = TIME_LIMIT,
        end_probability: float = 0.5,
        living_reward: float | None = None,
    ) -> None:
        self.agent, self.living_reward = agent, living_reward
        self.time_limit, self.end_probability = time_limit, end_probability
        vae, cell, device = agent.vae, agent.cell, str(agent.device)
        self.dream = Dream(vae, cell, rollouts, temperature, burn_in, device, fast=True)  # type: ignore[arg-type]

    @torch.inference_mode()
    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        """See ``Evaluator``; there is no patience, so ``final`` makes no difference."""
        agent, dream, device = self.agent, self.dream, self.dream.device
        episodes = len(population) * len(seeds)
        dream.begin(seeds)
        dream.keep(torch.arange(len(seeds), device=device).repeat(len(population)))
        flat = torch.as_tensor(population, dtype=torch.float32, device=device)
        flat = flat.repeat_interleave(len(seeds), dim=0)  # (P · E, n)
        returns = torch.zeros(episodes, dtype=torch.float64, device=device)  # (P · E,)
        rows, steps = torch.arange(episodes, device=device), 0
        for _ in range(self.time_limit):
            _, reward, end = dream.step(agent.decide(dream.z, dream.hidden, flat))
            returns[rows] += reward if self.living_reward is None else self.living_reward
            steps += len(rows)
            going = end < self.end_probability
            if not going.all():
                dream.keep(going)
                rows, flat = rows[going], flat[going]
                if not len(rows):
                    break
        return Scores(returns.view(len(population), len(seeds)).cpu().numpy(), steps)

    def close(self) -> None:
        """Nothing is held that must be freed."""
