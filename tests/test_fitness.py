"""A population's scores do not depend on how its episodes are spread over devices and batches."""

import numpy as np
import pytest
import torch

from wmlib import Agent, Controller, ConvVAE, LocalEvaluator, MDRNNCell, make_env
from wmlib.devices import every_gpu

COUNTING = "counting_env:Counting-v0"
L, H = 4, 8
SEEDS = [11, 12, 13]


@pytest.fixture(scope="module")
def agent() -> Agent:
    torch.manual_seed(0)
    space = make_env(COUNTING).action_space
    return Agent(ConvVAE(3, L), MDRNNCell(L, 2, H, 2), Controller(L, H, 2), space, amp=False)


@pytest.fixture(scope="module")
def population() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 2 * (L + H) + 2))


@pytest.mark.parametrize("candidates", [1, 3])
def test_two_devices_share_the_population(
    agent: Agent, population: np.ndarray, candidates: int
) -> None:
    alone = LocalEvaluator(agent, COUNTING, max_workers=2)
    shared = LocalEvaluator(agent, COUNTING, max_workers=4, devices=["cpu", "cpu"])
    try:
        wanted = alone(population[:candidates], SEEDS)
        found = shared(population[:candidates], SEEDS)
        np.testing.assert_array_equal(found.returns, wanted.returns)
        assert found.steps == wanted.steps
        first, second = shared.lanes
        assert first.agent.vae is not second.agent.vae
        assert min(first.agent.t, second.agent.t) > 0  # both have played
    finally:
        alone.close()
        shared.close()


def test_more_lanes_than_episodes(agent: Agent, population: np.ndarray) -> None:
    evaluator = LocalEvaluator(agent, COUNTING, devices=["cpu"] * 3)
    try:
        assert evaluator(population[:1], SEEDS[:1]).returns.shape == (1, 1)
    finally:
        evaluator.close()


def test_a_larger_generation_gets_more_environments(agent: Agent, population: np.ndarray) -> None:
    """The first call may be small, of the mean alone; the batches after it are not."""
    evaluator = LocalEvaluator(agent, COUNTING, max_workers=3)
    (lane,) = evaluator.lanes
    try:
        evaluator(population[:1], SEEDS[:1])
        assert lane.envs is not None
        assert lane.envs.rows == 1
        evaluator(population[:1], SEEDS)
        assert lane.envs.rows == 3
        kept = lane.envs
        evaluator(population[:1], SEEDS[:2])
        assert lane.envs is kept
    finally:
        evaluator.close()


def test_a_copy_on_another_device_acts_alike_and_is_independent(agent: Agent) -> None:
    copy = agent.on("cpu")
    frames = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    for each in (agent, copy):
        each.start([1, 2])
    np.testing.assert_array_equal(agent.act(frames, np.arange(2)), copy.act(frames, np.arange(2)))
    with torch.no_grad():
        copy.controller.fc.bias += 1
    assert not torch.equal(copy.controller.fc.bias, agent.controller.fc.bias)


def test_cuda_without_a_number_is_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert every_gpu(torch.device("cuda")) == ["cuda:0", "cuda:1"]
    assert every_gpu(torch.device("cuda:1")) == ["cuda:1"]
    assert every_gpu(torch.device("cpu")) == ["cpu"]
