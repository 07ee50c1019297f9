"""C practises in M's dream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from wmlib.agent import Agent
from wmlib.controller import act_batch
from wmlib.dream import Dream
from wmlib.fitness import Scores
from wmlib.rollouts import Rollout

__all__ = ["DreamEvaluator"]


class DreamEvaluator:
    """Scores a population in M's dream: thousands of episodes in one batch, no environment.

    A seed is a real moment to start from and a stream of noise, the same ones for every candidate.
    A return is the sum of the rewards that M predicts. An episode ends when M gives its end at
    least ``end_probability``, and leaves the batch.

    Args:
        agent: V, M, and C's architecture.
        rollouts: Real episodes to start from.
        temperature: τ. Above 1, what only works by exploiting M's mistakes pays less.
        burn_in: Real steps that M sees first.
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
        time_limit: int = 1000,
        end_probability: float = 0.5,
        living_reward: float | None = None,
    ) -> None:
        device, fast = str(agent.device), agent.amp
        self.agent = agent
        self.dream = Dream(agent.vae, agent.cell, rollouts, temperature, burn_in, device, fast)  # type: ignore[arg-type]
        self.time_limit, self.end_probability = time_limit, end_probability
        self.living_reward = living_reward

    @torch.inference_mode()
    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        """See ``Evaluator``; there is no patience, so ``final`` makes no difference."""
        agent, dream, device = self.agent, self.dream, self.dream.device
        episodes = len(population) * len(seeds)
        dream.begin(seeds)
        dream.keep(torch.arange(len(seeds), device=device).repeat(len(population)))
        flat = torch.as_tensor(population, dtype=torch.float32, device=device)
        flat = flat.repeat_interleave(len(seeds), dim=0)
        returns = torch.zeros(episodes, dtype=torch.float64, device=device)
        rows, steps = torch.arange(episodes, device=device), 0
        for _ in range(self.time_limit):
            state = agent.state(dream.z, dream.hidden)
            action = agent.action_map(act_batch(agent.controller, flat, state))
            _, reward, end = dream.step(action)
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
