"""C in the dream: one dream at a time, by the plain cell and by hand, is the oracle."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch

from wmlib import (
    Agent,
    Controller,
    ConvVAE,
    Dream,
    DreamEvaluator,
    MDRNNCell,
    Rollout,
    load_parameters,
    train_controller,
)
from wmlib.config import WMControllerConfig

L, H, LIMIT, BURN_IN = 4, 16, 25, 3
CAR = gym.spaces.Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))
SEEDS = [3, 14, 15, 92]


@pytest.fixture(scope="module")
def agent() -> Agent:
    """An untrained memory whose ends and rewards depend on where the dream goes."""
    torch.manual_seed(0)
    vae, cell = ConvVAE(3, L), MDRNNCell(L, 3, H, 2)
    vae.encoder.fc_mu.weight.data *= 200
    cell.gmm_linear.weight.data[-2:] *= 4
    cell.gmm_linear.bias.data[-1] = -0.6
    return Agent(vae, cell, Controller(L, H, 3), CAR, amp=False)


@pytest.fixture(scope="module")
def rollouts(coarse_rollout: Callable[..., Rollout]) -> list[Rollout]:
    return [coarse_rollout(seed, CAR, 12) for seed in (0, 1)]


@pytest.fixture(scope="module")
def population() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 3 * (L + H) + 3))


@torch.no_grad()
def dreamt_alone(
    agent: Agent, rollouts: list[Rollout], parameters: np.ndarray, seed: int
) -> tuple[float, int]:
    """Return and steps of a single dream."""
    dream = Dream(agent.vae, agent.cell, rollouts, burn_in=BURN_IN)
    controller = load_parameters(parameters, Controller(L, H, 3))
    dream.begin([seed])
    total = 0.0
    for step in range(1, LIMIT + 1):  # noqa: B007
        action = agent.action_map(controller(dream.z, dream.hidden[0]))
        _, reward, end = dream.step(action)
        total += float(reward)
        if end >= 0.5:
            break
    return total, step


def test_a_batch_of_dreams_is_each_dream_alone(
    agent: Agent, rollouts: list[Rollout], population: np.ndarray
) -> None:
    evaluator = DreamEvaluator(agent, rollouts, burn_in=BURN_IN, time_limit=LIMIT)
    found = evaluator(population, SEEDS)
    alone = [[dreamt_alone(agent, rollouts, p, seed) for seed in SEEDS] for p in population]
    wanted = np.array(alone)  # (P, E, 2)
    np.testing.assert_allclose(found.returns, wanted[..., 0], rtol=1e-4, atol=1e-4)
    assert found.steps == wanted[..., 1].sum()
    lengths = set(wanted[..., 1].ravel())
    assert len(lengths) > 3  # some left the batch before others
    assert LIMIT in lengths


def test_who_else_is_scored_makes_no_difference(
    agent: Agent, rollouts: list[Rollout], population: np.ndarray
) -> None:
    evaluator = DreamEvaluator(agent, rollouts, burn_in=BURN_IN, time_limit=LIMIT)
    whole = evaluator(population, SEEDS).returns
    part = evaluator(population[2:3], SEEDS[1:2]).returns
    np.testing.assert_allclose(part, whole[2:3, 1:2], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(evaluator(population, SEEDS).returns, whole)


def test_in_bfloat16_the_first_steps_are_the_same(
    agent: Agent, rollouts: list[Rollout], population: np.ndarray
) -> None:
    """Later ones are not: a dream is chaotic, and rounding picks another of its futures."""
    plain = DreamEvaluator(agent, rollouts, burn_in=BURN_IN, time_limit=4, end_probability=2)
    fast = DreamEvaluator(agent, rollouts, burn_in=BURN_IN, time_limit=4, end_probability=2)
    fast.dream = Dream(agent.vae, agent.cell, rollouts, burn_in=BURN_IN, fast=True)
    wanted, found = (each(population, SEEDS).returns for each in (plain, fast))
    assert np.median(np.abs(found - wanted)) < 0.02
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9


def test_the_search_climbs_in_the_dream(
    agent: Agent, rollouts: list[Rollout], tmp_path: object
) -> None:
    config = WMControllerConfig(
        latent_size=L, hidden_size=H, logdir=str(tmp_path), num_generations=8, pop_size=12,
        n_samples=8, eval_interval=8, eval_episodes=8, display=False, evaluator="dream",
        sigma0=0.5,
    )  # fmt: skip
    evaluator = DreamEvaluator(agent, rollouts, burn_in=BURN_IN, time_limit=10, end_probability=2)
    rows = train_controller(config, agent, evaluator)
    assert np.mean([row["mean"] for row in rows[-3:]]) > rows[0]["mean"]
    with pytest.raises(ValueError, match="evaluator is 'dream': hand one in"):
        train_controller(config, agent)


def test_a_memory_of_another_kind_dreams_too(rollouts: list[Rollout]) -> None:
    """Fused are LSTMs only; what a reader puts in their place takes its own steps."""

    class GRUCell(MDRNNCell):
        def __init__(self, *sizes: int) -> None:
            super().__init__(*sizes)
            self.rnn = torch.nn.GRUCell(self.latents + self.actions, self.hiddens)

        def step(
            self, action: torch.Tensor, latent: torch.Tensor, hidden: tuple[torch.Tensor, ...]
        ) -> tuple[torch.Tensor, torch.Tensor]:
            h = self.rnn(torch.cat([action, latent], dim=-1), hidden[0])
            return h, h

    torch.manual_seed(0)
    agent = Agent(ConvVAE(3, L), GRUCell(L, 3, H, 2), Controller(L, H, 3), CAR)
    population = np.random.default_rng(0).normal(size=(3, 3 * (L + H) + 3))
    dreams = DreamEvaluator(agent, rollouts, burn_in=BURN_IN, time_limit=5)
    returns = dreams(population, SEEDS).returns
    assert returns.shape == (3, 4)
    assert len(np.unique(returns)) == 12


def test_where_m_predicts_no_reward_each_step_pays_the_same(
    agent: Agent, rollouts: list[Rollout], population: np.ndarray
) -> None:
    evaluator = DreamEvaluator(
        agent, rollouts, burn_in=BURN_IN, time_limit=LIMIT, living_reward=0.5
    )
    scores = evaluator(population, SEEDS)
    assert scores.returns.sum() == scores.steps / 2
    assert (scores.returns <= LIMIT / 2).all()
    assert len(np.unique(scores.returns)) > 1


def test_dreams_of_a_memory_with_a_mixture_for_each_latent(rollouts: list[Rollout]) -> None:
    """A dream is what it is, whatever stands beside it, there too."""
    torch.manual_seed(0)
    vae, cell = ConvVAE(3, L), MDRNNCell(L, 3, H, 2, "latent")
    dream = Dream(vae, cell, rollouts, burn_in=0)
    many = dream.begin(SEEDS), dream.step(torch.zeros(len(SEEDS), 3))[0]
    alone = dream.begin(SEEDS[1:2]), dream.step(torch.zeros(1, 3))[0]
    for batch, one in zip(many, alone, strict=True):
        torch.testing.assert_close(batch[1:2], one)
