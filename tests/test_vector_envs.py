"""Many worlds, stepped together: each row is the episode that it would be alone.

In turn, as the core does it, and in processes, as it does where ``wmlib.fast`` is there.
"""

import os
from collections.abc import Iterator

import counting_env
import gymnasium as gym
import numpy as np
import pytest
from counting_env import action_level, episode_length

from wmlib.vector_envs import VectorImageEnv, choose_backend, make_vector_env

COUNTING = "counting_env:Counting-v0"
MIDDLE = np.float32([[0, 1], [0.5, 2], [-1, 0]])  # actions within the bounds
every_way = pytest.mark.usefixtures("way")


@pytest.fixture(params=["in turn", pytest.param("processes", marks=pytest.mark.fast)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How rows are stepped: what is asked of them is the same."""
    if request.param == "in turn":
        monkeypatch.setenv("WMLIB_FAST", "0")
    return request.param


@pytest.fixture
def three(way: str) -> Iterator[VectorImageEnv]:
    envs = make_vector_env(COUNTING, 3)
    assert type(envs).__name__ == {"in turn": "VectorImageEnv", "processes": "Processes"}[way]
    yield envs
    envs.close()


# -------------------------------------------------------------------------- Gymnasium's worlds


@every_way
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
    for count in range(episode_length(7)):
        frames, rewards, terminated, _ = three.step(np.array([0]), MIDDLE[:1])
        assert (len(frames), rewards[0]) == (1, count)
    assert terminated[0]


@every_way
@pytest.mark.parametrize("rows", [1, 2])
def test_the_time_limit_of_the_environment_truncates(rows: int) -> None:
    envs = make_vector_env("Pendulum-v1", rows, env_kwargs={"max_episode_steps": 2})
    envs.reset(range(rows))
    still, every = np.zeros((rows, 1), np.float32), np.arange(rows)
    ends = [envs.step(every, still)[2:] for _ in range(2)]
    assert [(t.tolist(), c.tolist()) for t, c in ends] == [
        ([False] * rows, [False] * rows),
        ([False] * rows, [True] * rows),
    ]
    envs.close()


@every_way
def test_rows_are_capped() -> None:
    most = 8 * os.cpu_count()
    for episodes, max_workers, rows in [(2, 32, 2), (5, 2, 2), (5, 1, 1), (10_000, 3, 3)]:
        envs = make_vector_env(COUNTING, episodes, max_workers=max_workers)
        assert envs.rows == rows <= most
        envs.close()


def test_an_error_in_an_environment_is_raised(three: VectorImageEnv) -> None:
    three.reset([0, 1, 2])
    with pytest.raises(
        RuntimeError, match=r"failed \(.*counting_env.py, line \d+\): AssertionError.*is not in Box"
    ):
        three.step(np.arange(3), np.full((3, 2), 99, np.float32))


@every_way
def test_a_wrong_name_fails_in_plain_words() -> None:
    with pytest.raises(ValueError, match="environment 'NoSuchWorld-v0' cannot be made"):
        make_vector_env("NoSuchWorld-v0", 3)


@every_way
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


def test_an_unknown_backend_is_named() -> None:
    with pytest.raises(ValueError, match=r"\('auto', 'gymnasium', 'envpool'\), found 'threads'"):
        choose_backend(COUNTING, "threads")


def test_without_the_fast_folder_gymnasium_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WMLIB_FAST", "0")
    assert choose_backend("CarRacing-v3") == "gymnasium"
    with pytest.raises(ValueError, match=r"cannot run CarRacing-v3 : wmlib\.fast is not there"):
        choose_backend("CarRacing-v3", "envpool")
