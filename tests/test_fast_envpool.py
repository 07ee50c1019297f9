"""EnvPool's CarRacing: when it is taken, and whose episode a row is."""

import importlib.util

import numpy as np
import pytest

from wmlib.vector_envs import choose_backend, make_vector_env

COUNTING = "counting_env:Counting-v0"
INSTALLED = importlib.util.find_spec("envpool") is not None
with_envpool = pytest.mark.skipif(not INSTALLED, reason="EnvPool is an extra, for Linux on x86-64")


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
