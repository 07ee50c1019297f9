"""How to play before one can play: what the actions look like, and whose noise it is."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from wmlib.envs import ActionMap
from wmlib.policies import POLICIES, make_policy

CAR = Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))
SPACES = [CAR, Box(-2, 2, (1,)), Box(-np.inf, np.inf, (2,)), Discrete(4, start=1)]
STEPS = 60


def played(name: str, space: object, seeds: list[int], steps: int = STEPS) -> np.ndarray:
    """Told actions (N, T, A)."""
    policy, rows = make_policy(name, space, steps), np.arange(len(seeds))
    policy.start(seeds)
    blind = np.zeros((len(seeds), 64, 64, 3), np.uint8)
    return np.stack([policy.act(blind, rows) for _ in range(steps)], axis=1)


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_every_policy_plays_every_space(name: str, space: object) -> None:
    told, actions = played(name, space, [3, 4]), ActionMap(space)
    assert (told.shape, told.dtype) == ((2, STEPS, actions.size), np.float32)
    executed = actions.to_env(told.reshape(-1, actions.size))
    assert all(space.contains(action) for action in executed)
    assert len(np.unique(told[0], axis=0)) > 1


@pytest.mark.parametrize("name", POLICIES)
def test_an_episode_follows_from_its_seed_alone(name: str) -> None:
    """Whatever its place in the batch: the plan that the seed draws, from its beginning."""
    told = played(name, CAR, [7, 8, 9])
    plan = POLICIES[name](np.random.default_rng(7), ActionMap(CAR), STEPS)
    np.testing.assert_array_equal(told[0], plan.astype(np.float32))
    np.testing.assert_array_equal(played(name, CAR, [9, 7]), told[[2, 0]])
    assert not np.array_equal(told[0], told[1])


@pytest.mark.parametrize("name", POLICIES)
def test_starting_again_begins_anew(name: str) -> None:
    policy = make_policy(name, CAR, 5)
    firsts = []
    for _ in range(2):
        policy.start([1, 2])
        firsts.append(policy.act(np.zeros((2, 64, 64, 3), np.uint8), np.arange(2)))
    np.testing.assert_array_equal(*firsts)


def test_rows_that_have_left_take_their_plan_with_them() -> None:
    whole, policy = played("random", CAR, [1, 2, 3]), make_policy("random", CAR, STEPS)
    policy.start([1, 2, 3])
    for t in range(STEPS):
        rows = np.arange(3) if t < 10 else np.array([0, 2])
        told = policy.act(np.zeros((len(rows), 64, 64, 3), np.uint8), rows)
        np.testing.assert_array_equal(told, whole[rows, t])


def test_random_play_is_uniform() -> None:
    """Mean and variance of each side, five standard errors wide."""
    told = played("random", CAR, [0, 1], 2000).reshape(-1, 3)
    low, high = CAR.low, CAR.high
    sigma = (high - low) / np.sqrt(12)
    assert (np.abs(told.mean(0) - (low + high) / 2) < 5 * sigma / np.sqrt(4000)).all()
    assert (np.abs(told.std(0) / sigma - 1) < 0.05).all()
    assert abs(np.corrcoef(told[:-1, 0], told[1:, 0])[0, 1]) < 0.1


def test_brownian_play_is_smooth() -> None:
    told = played("brownian", CAR, list(range(8)), 500)[..., 0]  # the wheel
    inside = [np.corrcoef(wheel[:-1], wheel[1:])[0, 1] for wheel in told]
    assert min(inside) > 0.8


def test_brownian_play_gets_the_car_about() -> None:
    """10 to 60 % gas around an episode's own centre, the brake on seldom."""
    told = played("brownian", CAR, list(range(40)), 500)
    gas, brake = told[..., 1], told[..., 2]
    assert 0.2 < gas.mean() < 0.5
    assert gas.mean(1).max() - gas.mean(1).min() > 0.2
    assert 0.02 < (brake > 0).mean() < 0.1


def test_held_actions_last_ten_steps_on_average() -> None:
    told = played("held", CAR, list(range(20)), 500)
    changes = (told[:, 1:] != told[:, :-1]).any(-1).mean()
    assert 1 / 12 < changes < 1 / 8


# ---------------------------------------------------------------------------- your own policy


def test_a_function_of_one_frame_is_a_policy() -> None:
    policy = make_policy(lambda frame: [frame.mean() / 255, 0.5, 0], CAR, STEPS)
    policy.start([0, 1])
    frames = np.uint8([0, 255])[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    assert policy.act(frames, np.arange(2)).tolist() == [[0, 0.5, 0], [1, 0.5, 0]]


def test_what_a_function_gives_is_clipped_as_the_environment_would_fault_15() -> None:
    """Fault 15: the environment clips the action, and M is given the unclipped one."""
    policy = make_policy(lambda frame: np.array([-7.0, 7.0, 7.0]), CAR, STEPS)
    assert policy.act(np.zeros((1, 64, 64, 3), np.uint8), np.arange(1)).tolist() == [[-1, 1, 1]]


def test_a_function_of_a_discrete_world_gives_the_environments_own_numbers() -> None:
    policy = make_policy(lambda frame: 4, Discrete(4, start=1), STEPS)
    assert policy.act(np.zeros((1, 64, 64, 3), np.uint8), np.arange(1)).tolist() == [[0, 0, 0, 1]]


class Ready:
    """What has ``start`` and ``act`` is a policy already."""

    def start(self, seeds: list[int]) -> None: ...

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([0, 1, 0.5]), (len(rows), 1))


def test_a_policy_is_taken_as_it_is() -> None:
    ready = Ready()
    assert make_policy(ready, CAR, STEPS) is ready


@pytest.mark.parametrize("policy", ["expert", 3, None])
def test_what_is_no_policy_is_named(policy: object) -> None:
    names = r"\['brownian', 'held',.* 'random'\]"
    with pytest.raises(ValueError, match=f"{names} or a function, found"):
        make_policy(policy, CAR, STEPS)


def test_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="not supported"):
        make_policy("random", MultiDiscrete([2, 2]), STEPS)
