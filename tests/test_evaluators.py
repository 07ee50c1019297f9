"""What a population is worth: each episode as it would be alone, in the game and in the dream."""

from collections.abc import Callable, Iterator

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
    LocalEvaluator,
    MDRNNCell,
    Rollout,
    evaluate,
    load_parameters,
    make_env,
    train_controller,
)
from wmlib.config import WMControllerConfig

pytestmark = pytest.mark.usefixtures("float32")
COUNTING, PAYING = "counting_env:Counting-v0", "trial_envs:Paying-v0"
L, H, LIMIT, BURN_IN = 4, 16, 25, 3
CAR = gym.spaces.Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))
SEEDS = [3, 14, 15, 92]


# ---- in the game -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counter() -> Agent:
    torch.manual_seed(0)
    space = make_env(COUNTING).action_space
    return Agent(ConvVAE(3, L), MDRNNCell(L, 2, H, 2), Controller(L, H, 2), space)


def counters(candidates: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(candidates, 2 * (L + H) + 2))


@pytest.fixture
def paying(counter: Agent) -> Iterator[LocalEvaluator]:
    """Two processes; impatient after 3 steps without a reward, each missing step costs 0.1."""
    evaluator = LocalEvaluator(counter, PAYING, 20, patience=3, max_workers=2)
    yield evaluator
    evaluator.close()


def constant(*firsts: float) -> np.ndarray:
    """Controllers (P, n) that answer every frame with that first action: see ``Paying-v0``."""
    population = np.zeros((len(firsts), 2 * (L + H) + 2))
    # The box reaches from -2 to 1 there: a = -2 + 3 (tanh(b) + 1) / 2.
    population[:, -2] = np.arctanh((np.array(firsts) + 2) / 1.5 - 1)
    return population


def test_more_room_than_episodes(counter: Agent) -> None:
    evaluator = LocalEvaluator(counter, COUNTING, max_workers=3)
    try:
        assert evaluator(counters(1), SEEDS[:1]).returns.shape == (1, 1)
    finally:
        evaluator.close()


@pytest.mark.parametrize("candidates", [1, 3])
def test_how_many_play_at_once_makes_no_difference(counter: Agent, candidates: int) -> None:
    alone = LocalEvaluator(counter, COUNTING, max_workers=1)
    shared = LocalEvaluator(counter, COUNTING, max_workers=3)
    try:
        wanted = alone(counters(candidates), SEEDS)
        found = shared(counters(candidates), SEEDS)
        np.testing.assert_array_equal(found.returns, wanted.returns)
        assert found.steps == wanted.steps
    finally:
        alone.close()
        shared.close()


def test_a_larger_generation_gets_more_environments(counter: Agent) -> None:
    """The first call may be small, of the mean alone; the batches after it are not."""
    evaluator = LocalEvaluator(counter, COUNTING, max_workers=3)
    try:
        evaluator(counters(1), SEEDS[:1])
        assert evaluator.envs is not None
        assert evaluator.envs.rows == 1
        evaluator(counters(1), SEEDS)
        assert evaluator.envs.rows == 3
        kept = evaluator.envs
        evaluator(counters(1), SEEDS[:2])
        assert evaluator.envs is kept
    finally:
        evaluator.close()
    assert evaluator.envs is None


def test_each_candidate_plays_each_episode(paying: LocalEvaluator) -> None:
    """Six episodes on two processes, in waves; returns in the right places."""
    seeds = [0, 3]  # 8 and 11 steps
    scores = paying(constant(0.5, 0.25, 0.75), seeds)
    wanted = np.outer([0.5, 0.25, 0.75], [8, 11])
    np.testing.assert_allclose(scores.returns, wanted, atol=1e-4)
    assert scores.steps == 3 * (8 + 11)


def test_steps_that_were_not_driven_are_charged(paying: LocalEvaluator) -> None:
    scores = paying(constant(-0.5, 0.5), [0])
    # Three steps of -0.5, then the 17 to the time limit at -0.1 each; who earns drives on.
    np.testing.assert_allclose(scores.returns, [[-1.5 - 17 * 0.1], [8 * 0.5]], atol=1e-4)
    assert scores.steps == 3 + 8


def test_a_final_score_never_stops_early(paying: LocalEvaluator) -> None:
    scores = paying(constant(-0.5), [0], final=True)
    np.testing.assert_allclose(scores.returns, [[8 * -0.5]], atol=1e-4)


def test_the_agent_is_itself_again_afterwards(paying: LocalEvaluator, counter: Agent) -> None:
    before = evaluate(counter, PAYING, 3, max_workers=1)["returns"]
    paying(constant(0.5, 0.9), [0])
    assert evaluate(counter, PAYING, 3, max_workers=1)["returns"] == before


# ---- in the dream ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agent() -> Agent:
    """An untrained memory whose ends and rewards depend on where the dream goes."""
    torch.manual_seed(0)
    vae, cell = ConvVAE(3, L), MDRNNCell(L, 3, H, 2)
    vae.encoder.fc_mu.weight.data *= 200
    cell.gmm_linear.weight.data[-2:] *= 4
    cell.gmm_linear.bias.data[-1] = -0.6
    return Agent(vae, cell, Controller(L, H, 3), CAR)


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
    agent: Agent,
    rollouts: list[Rollout],
    population: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Later ones are not: a dream is chaotic, and rounding picks another of its futures."""
    options = {"burn_in": BURN_IN, "time_limit": 4, "end_probability": 2}
    wanted = DreamEvaluator(agent, rollouts, **options)(population, SEEDS).returns
    monkeypatch.delenv("WMLIB_BF16")
    found = DreamEvaluator(agent, rollouts, **options)(population, SEEDS).returns
    assert np.median(np.abs(found - wanted)) < 0.02
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9


def test_the_search_climbs_in_the_dream(
    agent: Agent, rollouts: list[Rollout], tmp_path: object
) -> None:
    config = WMControllerConfig(
        latent_size=L, hidden_size=H, logdir=str(tmp_path), num_generations=8, pop_size=12,
        n_samples=8, display=False, evaluator="dream", sigma0=0.5,
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
