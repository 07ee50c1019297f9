"""Scores that can be worked out by hand, on episodes that nobody has trained on."""

import multiprocessing
from typing import Any

import numpy as np
import pytest
import torch
from counting_env import episode_length

from wmlib import (
    Agent,
    Controller,
    ConvVAE,
    MDRNNCell,
    episode_seed,
    evaluate,
    make_env,
)
from wmlib.evaluation import summarise

pytestmark = pytest.mark.usefixtures("float32")
COUNTING, PAYING = "counting_env:Counting-v0", "trial_envs:Paying-v0"
L, H = 4, 8
KEYS = {"agent", "env_id", "backend", "episodes", "seed", "mean", "std", "ci95", "returns"}
KEYS |= {"versions", "hardware"}


@pytest.fixture(scope="module")
def agent() -> Agent:
    torch.manual_seed(0)
    space = make_env(COUNTING).action_space
    return Agent(ConvVAE(3, L), MDRNNCell(L, 2, H, 2), Controller(L, H, 2), space)


def fresh_lengths(seed: int, count: int) -> list[int]:
    return [episode_length(episode_seed("evaluate", seed, i)) for i in range(count)]


@pytest.mark.parametrize("max_workers", [1, 2, 5])
def test_every_return_is_the_sum_of_its_episodes_rewards(max_workers: int) -> None:
    """The counting world pays 0, 1, 2, …; waves and processes must not mix the episodes up."""
    row = evaluate("random", COUNTING, episodes=5, seed=3, max_workers=max_workers)
    assert row["returns"] == [n * (n - 1) / 2 for n in fresh_lengths(3, 5)]


def test_a_row_has_all_that_a_report_needs() -> None:
    row = evaluate("random", COUNTING, episodes=2, seed=7, max_workers=1, name="chance")
    assert row.keys() == KEYS
    assert (row["agent"], row["env_id"], row["backend"]) == ("chance", COUNTING, "gymnasium")
    assert (row["episodes"], row["seed"], len(row["returns"])) == (2, 7, 2)
    assert {"python", "torch", "gymnasium", "numpy", "cma"} == row["versions"].keys()
    assert row["hardware"]


def test_the_statistics_are_those_of_the_returns() -> None:
    row = summarise(np.array([1.0, 2.0, 3.0, 6.0]))
    assert row["mean"] == 3.0
    assert row["std"] == pytest.approx((14 / 3) ** 0.5, abs=1e-3)  # of the sample
    assert row["ci95"] == pytest.approx(1.96 * (14 / 3) ** 0.5 / 2, abs=1e-3)
    alone = summarise(np.array([4.0]))
    assert (alone["mean"], alone["std"], alone["ci95"]) == (4.0, None, None)


def test_the_same_seed_is_the_same_score_and_another_another(agent: Agent) -> None:
    """Noise included: each step pays what the agent does upon a sample of z."""
    agent.assign(None)
    agent.sample_z = True
    first, again, other = (
        evaluate(agent, PAYING, 4, seed, max_workers=2)["returns"] for seed in (0, 0, 1)
    )
    agent.sample_z = False
    assert first == again
    assert set(first).isdisjoint(other)


def test_a_time_limit_ends_episodes() -> None:
    row = evaluate("random", COUNTING, episodes=2, time_limit=4, max_workers=1)
    assert row["returns"] == [6.0, 6.0]


def test_a_function_of_a_frame_can_be_scored() -> None:
    row = evaluate(lambda frame: np.float32([0.5, 0]), PAYING, episodes=2, max_workers=1)
    assert row["returns"] == [0.5 * n for n in fresh_lengths(0, 2)]


def test_no_two_purposes_ever_share_an_episode() -> None:
    purposes = ("collect", "train", "select", "evaluate")
    owned = [
        {episode_seed(purpose, seed, i) for seed in range(50) for i in range(50)}
        for purpose in purposes
    ]
    assert len(set.union(*owned)) == sum(map(len, owned))
    assert all(0 <= number < 2**31 for number in set.union(*owned))
    for i, purpose in enumerate(purposes):  # not by luck: each has a quarter to itself
        assert {number // 2**29 for number in owned[i]} == {i}, purpose


@pytest.mark.parametrize("episodes", [0, -1])
def test_nothing_to_play_is_said(episodes: int) -> None:
    with pytest.raises(ValueError, match=f"episodes must be at least 1, found {episodes}"):
        evaluate("random", COUNTING, episodes=episodes)


def test_an_agent_of_another_world_is_refused(agent: Agent) -> None:
    with pytest.raises(ValueError, match=r"the agent acts in Box.* wants Discrete"):
        evaluate(agent, "counting_env:CountingDiscrete-v0", episodes=1)


def test_processes_end_with_whatever_ended_the_evaluation() -> None:
    def fail(frame: Any) -> Any:
        raise ZeroDivisionError

    before = set(multiprocessing.active_children())
    with pytest.raises(ZeroDivisionError):
        evaluate(fail, COUNTING, episodes=2, max_workers=2)
    assert set(multiprocessing.active_children()) == before


@pytest.mark.fast
def test_a_process_that_dies_is_one_sentence_and_leaves_none_behind() -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(RuntimeError, match="a process of trial_envs:Mortal-v0 died"):
        evaluate("random", "trial_envs:Mortal-v0", 4, max_workers=2, env_kwargs={"lives": 0})
    assert set(multiprocessing.active_children()) == before


@pytest.mark.slow
def test_the_real_world_repeats_with_its_seed() -> None:
    runs = [
        evaluate("brownian", episodes=2, seed=s, time_limit=60, max_workers=2) for s in (0, 0, 1)
    ]
    assert runs[0]["returns"] == runs[1]["returns"]
    assert runs[0]["returns"] != runs[2]["returns"]


@pytest.mark.slow
def test_gymnasium_and_envpool_pay_the_same_for_the_same_driving() -> None:
    """The same actions blindly; the tracks differ, so the means do, within their intervals."""
    pytest.importorskip("envpool")

    class Blind:
        """Straight on with some gas, as if nobody were at the wheel."""

        def start(self, seeds: Any) -> None: ...

        def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return np.tile(np.float32([0.02, 0.25, 0]), (len(rows), 1))

    rows = [
        evaluate(Blind(), episodes=16, time_limit=100, backend=backend, max_workers=4)
        for backend in ("gymnasium", "envpool")
    ]
    assert [row["backend"] for row in rows] == ["gymnasium", "envpool"]
    gap = abs(rows[0]["mean"] - rows[1]["mean"])
    assert gap <= (rows[0]["ci95"] ** 2 + rows[1]["ci95"] ** 2) ** 0.5
    assert rows[0]["mean"] > 0  # it drives: there is something to compare
