"""Many worlds, stepped together: each row is the episode that it would be alone."""

import importlib.util
import multiprocessing
import os
from collections.abc import Iterator

import counting_env
import gymnasium as gym
import numpy as np
import pytest
from counting_env import action_level, episode_length

from wmlib.envs import make_image_env
from wmlib.vector_envs import VectorImageEnv, choose_backend, make_vector_env

COUNTING = "counting_env:Counting-v0"
MIDDLE = np.float32([[0, 1], [0.5, 2], [-1, 0]])  # actions within the bounds
INSTALLED = importlib.util.find_spec("envpool") is not None
with_envpool = pytest.mark.skipif(not INSTALLED, reason="EnvPool is an extra, for Linux on x86-64")


@pytest.fixture
def three() -> Iterator[VectorImageEnv]:
    envs = make_vector_env(COUNTING, 3)
    yield envs
    envs.close()


# -------------------------------------------------------------------------- Gymnasium's worlds


@pytest.mark.parametrize("rows", [1, 3])
def test_each_row_has_its_own_seed(rows: int) -> None:
    envs = make_vector_env(COUNTING, rows)
    seeds = [5, 90, 1234][:rows]
    frames = envs.reset(seeds)
    assert (frames.shape, frames.dtype) == ((rows, 64, 64, 3), np.uint8)
    assert frames[:, 0, 0].tolist() == [[0, seed % 251, 0] for seed in seeds]
    envs.close()


def test_rows_come_in_the_order_given(three: VectorImageEnv) -> None:
    three.reset([5, 90, 1234])
    three.rest(np.array([1]))
    frames, rewards, terminated, truncated = three.step(np.array([2, 0]), MIDDLE[:2])
    assert frames[:, 0, 0].tolist() == [
        [1, 1234 % 251, action_level(MIDDLE[0])],
        [1, 5, action_level(MIDDLE[1])],
    ]
    assert rewards.tolist() == [0, 0]
    assert not (terminated | truncated).any()


def test_rows_that_ended_rest(three: VectorImageEnv) -> None:
    """The counting world fails if it is stepped after its end."""
    seeds = [0, 3, 6]
    three.reset(seeds)
    rows, lengths = np.arange(3), np.zeros(3, dtype=int)
    while len(rows):
        frames, rewards, terminated, _ = three.step(rows, MIDDLE[rows])
        assert rewards.tolist() == lengths[rows].tolist()
        lengths[rows] += 1
        assert frames[:, 0, 0, 0].tolist() == lengths[rows].tolist()
        rows = rows[~terminated]
    assert lengths.tolist() == [episode_length(seed) for seed in seeds]


def test_rows_can_be_put_to_rest_and_woken(three: VectorImageEnv) -> None:
    three.reset([0, 0, 0])
    three.step(np.arange(3), MIDDLE)
    three.rest(np.array([0, 1]))
    for count in (2, 3):
        assert three.step(np.array([2]), MIDDLE[:1])[0][0, 0, 0, 0] == count
    three.reset([0, 0, 0])
    assert three.step(np.arange(3), MIDDLE)[0][:, 0, 0, 0].tolist() == [1, 1, 1]


def test_rows_that_ended_rest_on_when_others_are_put_to_rest(three: VectorImageEnv) -> None:
    three.reset([0, 3, 6])
    for _ in range(episode_length(0)):
        three.step(np.arange(3), MIDDLE)
    three.rest(np.array([1]))
    frames, *_ = three.step(np.array([2]), MIDDLE[:1])
    assert frames[0, 0, 0, 0] == episode_length(0) + 1


def test_fewer_episodes_than_rows(three: VectorImageEnv) -> None:
    assert three.reset([7]).shape == (1, 64, 64, 3)
    assert three.envs.get_attr("resting") == (False, True, True)
    for count in range(episode_length(7)):
        frames, rewards, terminated, _ = three.step(np.array([0]), MIDDLE[:1])
        assert (len(frames), rewards[0]) == (1, count)
    assert terminated[0]


def test_the_time_limit_of_the_environment_truncates() -> None:
    envs = make_vector_env("Pendulum-v1", 1, env_kwargs={"max_episode_steps": 2})
    envs.reset([0])
    ends = [envs.step(np.array([0]), np.zeros((1, 1), np.float32))[2:] for _ in range(2)]
    assert [(bool(t[0]), bool(c[0])) for t, c in ends] == [(False, False), (False, True)]
    envs.close()


def test_processes_show_what_one_environment_shows() -> None:
    envs, alone = make_vector_env("LunarLander-v3", 2), make_image_env("LunarLander-v3")
    frames = envs.reset([3, 4])
    np.testing.assert_array_equal(frames[1], alone.reset(seed=4)[0])
    for _ in range(3):
        frames, rewards, *_ = envs.step(np.arange(2), np.array([1, 2]))
        frame, reward, *_ = alone.step(2)
        np.testing.assert_array_equal(frames[1], frame)
        assert rewards[1] == pytest.approx(reward)
    envs.close()
    alone.close()


def test_rows_are_capped() -> None:
    most = 8 * os.cpu_count()
    for episodes, max_workers, rows in [(2, 32, 2), (5, 2, 2), (5, 1, 1), (10_000, 3, 3)]:
        envs = make_vector_env(COUNTING, episodes, max_workers=max_workers)
        assert envs.rows == rows <= most
        envs.close()


def test_closing_ends_the_processes() -> None:
    before = set(multiprocessing.active_children())
    envs = make_vector_env(COUNTING, 2)
    envs.reset([0, 1])
    assert len(set(multiprocessing.active_children()) - before) == 2
    envs.close()
    assert not set(multiprocessing.active_children()) - before


def test_a_dead_process_is_one_sentence_and_no_wait_fault_12() -> None:
    """Fault 12: a worker that dies leaves the master waiting for ever."""
    before = set(multiprocessing.active_children())
    envs = make_vector_env("trial_envs:Mortal-v0", 2, env_kwargs={"lives": 0})
    envs.reset([0, 1])

    def play() -> None:
        for _ in range(8):
            envs.step(np.arange(2), MIDDLE[:2])

    with pytest.raises(RuntimeError, match=r"a process of trial_envs:Mortal-v0 died .*again"):
        play()
    envs.close()
    for process in set(multiprocessing.active_children()) - before:
        process.join(10)
    assert not set(multiprocessing.active_children()) - before


def test_a_process_killed_between_two_episodes_is_noticed() -> None:
    envs = make_vector_env(COUNTING, 2)
    envs.reset([0, 1])
    envs.envs.processes[1].kill()
    with pytest.raises(RuntimeError, match=f"a process of {COUNTING} died"):
        envs.reset([2, 3])
    envs.close()


def test_an_error_in_a_process_is_raised_here() -> None:
    envs = make_vector_env(COUNTING, 2)
    envs.reset([0, 1])
    with pytest.raises(AssertionError, match="is not in Box"):
        envs.step(np.arange(2), np.full((2, 2), 99, np.float32))
    envs.close()


def test_a_wrong_name_fails_in_plain_words() -> None:
    with pytest.raises(ValueError, match="environment 'NoSuchWorld-v0' cannot be made"):
        make_vector_env("NoSuchWorld-v0", 3)


def test_arguments_reach_the_environment() -> None:
    envs = make_vector_env(COUNTING, 2, env_kwargs={"length": 1, "size": 96})
    envs.reset([0, 1])
    assert envs.step(np.arange(2), MIDDLE[:2])[2].all()
    assert isinstance(envs.action_space, gym.spaces.Box)
    np.testing.assert_array_equal(envs.action_space.low, counting_env.LOW)
    envs.close()


# --------------------------------------------------------------------------- which of the two


def test_other_environments_run_on_gymnasium() -> None:
    assert choose_backend(COUNTING) == choose_backend("LunarLander-v3") == "gymnasium"
    assert choose_backend("CarRacing-v3", "gymnasium") == "gymnasium"
    assert choose_backend("CarRacing-v3", "auto", {"continuous": False}) == "gymnasium"


@with_envpool
def test_envpool_is_taken_where_it_agrees() -> None:
    assert choose_backend("CarRacing-v3") == choose_backend("CarRacing-v3", "envpool") == "envpool"


@with_envpool
@pytest.mark.parametrize(("name", "kwargs"), [(COUNTING, {}), ("CarRacing-v3", {"a": 1})])
def test_envpool_that_cannot_serve_is_refused(name: str, kwargs: dict) -> None:
    with pytest.raises(ValueError, match=f"backend 'envpool' cannot run {name}.*serves"):
        choose_backend(name, "envpool", kwargs)


def test_without_envpool_gymnasium_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert choose_backend("CarRacing-v3") == "gymnasium"
    with pytest.raises(ValueError, match=r"install the extra wmlib\[fast\]"):
        choose_backend("CarRacing-v3", "envpool")


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match="auto, gymnasium or envpool, found 'threads'"):
        choose_backend(COUNTING, "threads")


# ------------------------------------------------------------------------------------ EnvPool


def drive(seeds: list[int], order: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Frames and rewards of a few steps; ``order`` is how the rows are named at each step."""
    envs = make_vector_env("CarRacing-v3", len(seeds), "envpool")
    envs.reset(seeds)
    actions = np.float32([[0.1 * (seed % 7), 0.8, 0] for seed in seeds])
    for _ in range(12):
        frames, rewards, _, _ = envs.step(np.array(order), actions[order])
    envs.close()
    back = np.argsort(order)
    return frames[back], rewards[back]


@with_envpool
def test_a_pooled_episode_follows_from_its_seed_alone() -> None:
    """Whatever batch it runs in, and in whatever order the rows are named."""
    frames, rewards = drive([1, 2, 3], [0, 1, 2])
    np.testing.assert_array_equal(drive([1, 2, 3], [2, 0, 1])[0], frames)
    np.testing.assert_array_equal(drive([3, 1, 2], [0, 1, 2])[0], frames[[2, 0, 1]])
    alone, reward = drive([2], [0])
    np.testing.assert_array_equal(alone[0], frames[1])
    assert reward[0] == rewards[1]
    assert not np.array_equal(frames[0], frames[1])


@with_envpool
def test_pooled_rows_are_stepped_alone() -> None:
    envs = make_vector_env("CarRacing-v3", 3, "envpool")
    first = envs.reset([1, 2, 3])
    assert (first.shape, first.dtype) == ((3, 64, 64, 3), np.uint8)
    gas = np.float32([[0, 1, 0]])
    for _ in range(12):
        alone = envs.step(np.array([1]), gas)[0]
    frames = envs.step(np.array([2, 0]), gas.repeat(2, 0))[0]
    assert np.abs(alone[0].astype(int) - first[1]).mean() > 1
    envs.close()
    np.testing.assert_array_equal(frames, one_step([3, 1]))


def one_step(seeds: list[int]) -> np.ndarray:
    envs = make_vector_env("CarRacing-v3", len(seeds), "envpool")
    envs.reset(seeds)
    frames = envs.step(np.arange(len(seeds)), np.float32([[0, 1, 0]] * len(seeds)))[0]
    envs.close()
    return frames
