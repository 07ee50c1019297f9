"""The real world as pictures, the seeds of its episodes, and the way into its action space."""

import sys
from pathlib import Path
from typing import Any

import counting_env
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.utils.env_checker import check_env

from wmlib.collect import play
from wmlib.envs import (
    PURPOSES,
    ActionMap,
    GymImageEnv,
    action_space,
    episode_seed,
    make_env,
    make_image_env,
)
from wmlib.pixels import resize
from wmlib.policies import make_policy
from wmlib.vector_envs import make_vector_env

COUNTING = "counting_env:Counting-v0"
CAR = Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))


# --------------------------------------------------------------------------------- the wrapper


@pytest.mark.filterwarnings(
    "ignore:.*:UserWarning"
)  # what check_env recommends about the world inside
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("CarRacing-v3", {}),
        ("CarRacing-v3", {"continuous": False}),
        ("LunarLander-v3", {}),
        ("Pendulum-v1", {}),
        (COUNTING, {}),
        ("counting_env:CountingDiscrete-v0", {"size": 96}),
        ("counting_env:CountingState-v0", {}),
    ],
)
def test_environments_pass_gymnasiums_own_check(name: str, kwargs: dict[str, Any]) -> None:
    """Images or not, Box or Discrete."""
    env = make_image_env(name, **kwargs)
    check_env(env, skip_render_check="human" in env.metadata["render_modes"])  # opens a window
    frame, _ = env.reset(seed=0)
    assert (frame.shape, frame.dtype) == ((64, 64, 3), np.uint8)
    assert env.observation_space == gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    env.close()


def test_the_five_tuple() -> None:
    env = make_image_env(COUNTING, length=2)
    env.reset(seed=0)
    steps = [env.step(env.action_space.sample()) for _ in range(2)]
    assert [step[1:4] for step in steps] == [(0.0, False, False), (1.0, True, False)]
    assert isinstance(steps[0][4], dict)


def test_truncation_is_not_termination() -> None:
    env = make_image_env(COUNTING, max_episode_steps=3, length=9)
    env.reset(seed=0)
    ends = [env.step(env.action_space.sample())[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_image_observations_are_resized_by_the_one_resizer_fault_14() -> None:
    """Fault 14: collection, training and acting each had a resizer of their own."""
    raw, small = gym.make("CarRacing-v3"), make_image_env("CarRacing-v3")
    for seed in (0, 1):
        np.testing.assert_array_equal(small.reset(seed=seed)[0], resize(raw.reset(seed=seed)[0]))
    action = np.float32([0.1, 0.5, 0])
    np.testing.assert_array_equal(small.step(action)[0], resize(raw.step(action)[0]))


def test_states_are_rendered() -> None:
    env = make_image_env("counting_env:CountingState-v0", size=96)
    frame, _ = env.reset(seed=5)
    assert (frame == [0, 5, 0]).all()
    frame, *_ = env.step(np.float32([1, 1]))
    assert (frame == [1, 5, counting_env.action_level([1, 1])]).all()


def test_other_sizes() -> None:
    env = GymImageEnv(make_env(COUNTING), size=(32, 48))
    assert env.reset(seed=0)[0].shape == env.observation_space.shape == (32, 48, 3)


class Picture(gym.Env):
    """An environment that shows one picture, takes no ``render_mode`` and cannot render."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, picture: np.ndarray) -> None:
        self.picture = picture
        self.observation_space = gym.spaces.Box(0, 255, picture.shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        return self.picture, {}


@pytest.mark.parametrize("shape", [(80, 80), (80, 80, 1), (80, 80, 3)])
def test_grey_pictures_become_colour(shape: tuple[int, ...]) -> None:
    frame, _ = GymImageEnv(Picture(np.full(shape, 90, np.uint8))).reset()
    assert frame.shape == (64, 64, 3)
    assert (frame == 90).all()


def test_an_environment_that_takes_no_render_mode() -> None:
    gym.register("Picture-v0", Picture, kwargs={"picture": np.full((64, 64, 3), 7, np.uint8)})
    try:
        assert (make_image_env("Picture-v0").reset()[0] == 7).all()
    finally:
        del gym.registry["Picture-v0"]


def test_an_environment_without_pictures_says_so() -> None:
    with pytest.raises(ValueError, match=r"no picture.*render mode is None.*'rgb_array'"):
        GymImageEnv(gym.make("Pendulum-v1"))


# ------------------------------------------------------------------------------------- names


def test_carracing_v2_points_to_v3() -> None:
    with pytest.raises(ValueError, match=r"'CarRacing-v2' cannot be made: .*use CarRacing-v3"):
        make_env("CarRacing-v2")


@pytest.mark.parametrize("name", ["NoSuchWorld-v0", "no_such_module:World-v0"])
def test_an_unknown_environment_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"environment '{name}' cannot be made"):
        make_env(name)


def test_a_wrong_argument_is_the_environments_own_error() -> None:
    with pytest.raises(ValueError, match=r"cannot be made: TypeError.*colour"):
        make_env(COUNTING, colour="red")


# ------------------------------------------------------------------------------------- seeds


def test_seeds_of_purposes_are_disjoint() -> None:
    """Training, selection and final evaluation never meet, whatever the two base seeds."""
    ranges = {}
    for purpose in PURPOSES:
        seeds = [
            episode_seed(purpose, seed, i) for seed in range(40) for i in (0, 1, 999, 2**29 - 1)
        ]
        assert min(seeds) >= 0
        assert max(seeds) < 2**31
        ranges[purpose] = (min(seeds) // 2**29, max(seeds) // 2**29)
    assert sorted(ranges.values()) == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_every_episode_of_a_run_has_its_own_seed_fault_4() -> None:
    """Fault 4: a new environment per rollout, each with seed 0, is the same track every time."""
    for purpose in PURPOSES:
        assert len({episode_seed(purpose, 0, i) for i in range(1000)}) == 1000


def test_runs_of_other_seeds_play_other_episodes() -> None:
    runs = [{episode_seed("collect", seed, i) for i in range(100)} for seed in range(20)]
    assert len(set.union(*runs)) == 2000


def test_seeds_repeat() -> None:
    assert episode_seed("train", 3, 7) == episode_seed("train", 3, 7)
    assert episode_seed("train", 3, 7) != episode_seed("train", 3, 8)


def test_an_unknown_purpose_is_named() -> None:
    with pytest.raises(ValueError, match=r"purpose must be one of .*, found 'fun'"):
        episode_seed("fun", 0, 0)


# ------------------------------------------------------------------------------- the actions


def test_a_zero_output_is_a_car_that_moves() -> None:
    """A generic squash into [0, 1] would brake at ½, and the search start on a plateau."""
    assert ActionMap(CAR)(torch.zeros(1, 3)).tolist() == [[0, 0.5, 0]]


def test_the_cars_map() -> None:
    x = torch.tensor([[-0.3, 1.2, 0.7], [2.0, -3.0, -0.7]])
    steer, gas, brake = ActionMap(CAR)(x).T
    torch.testing.assert_close(steer, x[:, 0].tanh())
    torch.testing.assert_close(gas, 1 / (1 + (-x[:, 1]).exp()))
    torch.testing.assert_close(brake, torch.tensor([np.tanh(0.7), 0.0], dtype=torch.float32))


@pytest.mark.parametrize(
    "space",
    [
        CAR,
        Box(-2, 2, (1,)),
        Box(np.float32([-0.1, 5, -3]), np.float32([0.7, 5.3, 11])),
        Box(0, 1, (2, 2), dtype=np.float64),
    ],
)
def test_every_output_is_an_action_of_a_bounded_box(space: Box) -> None:
    """Within the bounds to the last bit, and reaching both."""
    actions = ActionMap(space)
    torch.manual_seed(0)
    outputs = torch.cat([10 * torch.randn(200, actions.size), torch.full((1, actions.size), 1e9)])
    outputs = torch.cat([outputs, -outputs])
    told = actions(outputs)
    executed = actions.to_env(told.numpy())
    assert executed.shape == (len(outputs), *space.shape)
    assert all(space.contains(action) for action in executed)
    np.testing.assert_array_equal(executed.max(0), space.high)
    np.testing.assert_array_equal(executed.min(0), space.low)


def test_zero_is_the_middle_of_a_bounded_box() -> None:
    space = Box(np.float32([-2, 0]), np.float32([1, 3]))
    torch.testing.assert_close(ActionMap(space)(torch.zeros(1, 2)), torch.tensor([[-0.5, 1.5]]))


def test_unbounded_sides_stay_as_they_are() -> None:
    space = Box(np.float32([-np.inf, 0]), np.float32([np.inf, np.inf]))
    actions = ActionMap(space)
    assert not actions.is_bounded
    assert actions(torch.tensor([[-7.0, -7.0], [7.0, 7.0]])).tolist() == [[-7, 0], [7, 7]]


def test_discrete_actions_are_arg_maxed_and_told_one_hot() -> None:
    actions = ActionMap(Discrete(4))
    told = actions(torch.tensor([[0.1, 3.0, -1.0, 2.0], [5.0, 0.0, 0.0, 4.0]]))
    assert told.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert actions.to_env(told.numpy()).tolist() == [1, 0]


def test_a_discrete_space_may_start_elsewhere() -> None:
    actions = ActionMap(Discrete(4, start=-1))
    executed = actions.to_env(np.eye(4, dtype=np.float32))
    assert executed.tolist() == [-1, 0, 1, 2]
    assert all(actions.space.contains(action) for action in executed)
    np.testing.assert_array_equal(actions.from_env(executed), np.eye(4))


@pytest.mark.parametrize("space", [CAR, Box(-2, 2, (1,)), Box(0, 1, (2, 2)), Discrete(5)])
def test_what_the_environment_takes_and_what_m_is_told_are_one(space: gym.Space) -> None:
    space.seed(0)
    actions = ActionMap(space)
    executed = np.stack([space.sample() for _ in range(20)])
    told = actions.from_env(executed)
    assert (told.shape, told.dtype) == ((20, actions.size), np.float32)
    np.testing.assert_array_equal(actions.to_env(told), executed)


def test_m_is_told_the_clipped_action_fault_15() -> None:
    """Fault 15: the environment clips the action, and M is given the unclipped one."""
    told = ActionMap(CAR).from_env(np.array([[-3.0, 0.5, -0.2], [0.1, 7.0, 2.0]]))
    np.testing.assert_allclose(told, [[-1, 0.5, 0], [0.1, 1, 1]])


@pytest.mark.parametrize(
    ("name", "kwargs", "size"),
    [
        ("CarRacing-v3", {}, 3),
        ("CarRacing-v3", {"continuous": False}, 5),
        ("LunarLander-v3", {}, 4),
        ("Pendulum-v1", {}, 1),
    ],
)
def test_sizes_of_known_environments(name: str, kwargs: dict, size: int) -> None:
    env = gym.make(name, **kwargs)
    actions = ActionMap(env.action_space)
    assert actions.size == size
    assert actions.is_car == (name == "CarRacing-v3" and not kwargs)
    env.close()


def test_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MultiDiscrete\(\[2 3\]\) is not supported: Box and"):
        ActionMap(gym.spaces.MultiDiscrete([2, 3]))


def test_without_the_fast_folder_gymnasium_draws_its_car_racing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WMLIB_FAST", "0")
    env, theirs = make_env("CarRacing-v3"), gym.make("CarRacing-v3")
    assert type(env.unwrapped) is type(theirs.unwrapped)
    env.close()
    theirs.close()


# ------------------------------------------------------------------------------ TakeCover in Doom

DOOM = "VizdoomTakeCover-v1"


def played(env: gym.Env, seed: int, push: int = 0) -> tuple[list[np.ndarray], tuple[bool, bool]]:
    """All frames of a game with one key held, and how it ended."""
    frames = [env.reset(seed=seed)[0]]
    for _ in range(3000):
        frame, reward, terminated, truncated, _ = env.step(np.array([push], np.int8))
        assert reward == 1
        frames.append(frame)
        if terminated or truncated:
            return frames, (terminated, truncated)
    raise AssertionError("the game has no end")


def test_take_cover_is_the_papers_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds repeat, death terminates, the crop is 400 of 480 rows, and nothing is left behind."""
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    env = make_env(DOOM)
    assert env.observation_space.shape == (200, 320, 3)
    assert env.action_space == action_space(DOOM) == gym.spaces.Box(-1, 1, (1,), np.int8)
    first, ended = played(env, seed=5)
    again, _ = played(env, seed=5)
    other, _ = played(env, seed=6)
    env.close()
    assert ended == (True, False)
    assert 60 < len(first) < 400  # facts: who stands still lives for 130 ± 48 tics
    np.testing.assert_array_equal(np.stack(first), np.stack(again))
    assert len(other) != len(first) or not np.array_equal(np.stack(other), np.stack(first))
    np.testing.assert_array_equal(first[-1], first[-2])  # the engine's last frame is black
    assert first[-1].any()
    assert not list(tmp_path.iterdir())


def test_take_covers_crop_and_sides() -> None:
    """The picture is ViZDoom's own without the status bar; 1 moves right: the wall moves left."""
    pytest.importorskip("vizdoom")
    env = make_env(DOOM)
    env.reset(seed=5)
    whole = env.unwrapped.state.screen_buffer
    np.testing.assert_array_equal(env.reset(seed=5)[0], whole[:200])
    positions = []
    for push in (-1, 0, 1):
        env.reset(seed=5)
        for _ in range(20):
            env.step(np.array([push], np.int8))
        positions.append(env.unwrapped.game.get_last_action())
    env.close()
    assert positions == [[1, 0], [0, 0], [0, 1]]  # its buttons: MOVE_LEFT, MOVE_RIGHT


def test_running_out_of_time_is_no_death() -> None:
    pytest.importorskip("vizdoom")
    env = make_image_env(DOOM, episode_timeout=44)
    frames, ended = played(env, seed=5)
    env.close()
    assert ended == (False, True)
    assert frames[0].shape == (64, 64, 3)
    assert len(frames) == 1 + 44


def test_without_vizdoom_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    monkeypatch.delitem(sys.modules, "vizdoom.gymnasium_wrapper", raising=False)
    assert action_space(DOOM).shape == (1,)
    with pytest.raises(ValueError, match=r"pip install 'wmlib\[doom\]'"):
        make_env(DOOM)


def test_games_side_by_side_are_what_each_is_alone() -> None:
    """Three rows of one vector environment, of which the first ends early."""
    pytest.importorskip("vizdoom")
    seeds, alone = [5, 6], []
    for seed in seeds:
        env = make_image_env(DOOM)
        alone.append(played(env, seed)[0])
        env.close()
    envs, kept = make_vector_env(DOOM, 3), {0: [], 1: []}
    still = make_policy(lambda frame: np.zeros(1, np.int8), envs.action_space, 3000)
    for step in play(envs, still, seeds, 3000):
        for row, frame in zip(step.rows, step.frames, strict=True):
            kept[int(row)].append(frame)
    envs.close()
    for row, frames in enumerate(alone):
        np.testing.assert_array_equal(np.stack(kept[row]), np.stack(frames[:-1]))


def test_whole_numbers_share_the_range_equally() -> None:
    """The paper's Doom: below -1/3 left, above 1/3 right, else stay; zero output stays."""
    actions = ActionMap(Box(-1, 1, (1,), np.int8))
    tanh = torch.tensor([-0.999999, -0.34, -0.33, 0.0, 0.33, 0.34, 0.999999])
    outputs = torch.cat([tanh.atanh(), torch.tensor([-99.0, 99.0])])[:, None]
    told = actions(outputs)
    assert told.flatten().tolist() == [-1, -1, 0, 0, 0, 1, 1, -1, 1]
    executed = actions.to_env(told.numpy())
    assert executed.dtype == np.int8
    assert all(actions.space.contains(action) for action in executed)
    np.testing.assert_array_equal(actions.from_env(executed), told.numpy())


def test_what_a_broken_environment_raises_names_its_line() -> None:
    class Broken(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)
        action_space = gym.spaces.Discrete(2)

        def reset(self, **kwargs: Any) -> Any:
            return {}["x"]

    with pytest.raises(
        RuntimeError, match=r"failed \(.*test_envs\.py, line \d+\): KeyError\('x'\)"
    ):
        GymImageEnv(Broken()).reset(seed=0)
