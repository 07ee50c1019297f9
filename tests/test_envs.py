"""The real world as pictures, and the seeds of its episodes."""

from typing import Any

import counting_env
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wmlib.envs import PURPOSES, GymImageEnv, episode_seed, make_env, make_image_env
from wmlib.pixels import resize

COUNTING = "counting_env:Counting-v0"


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
    with pytest.raises(TypeError, match="colour"):
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


# --------------------------------------------------------------------------- the quicker CarRacing


def same_pictures(seed: int, actions: np.ndarray) -> bool:
    """Whether Gymnasium's CarRacing and ours agree in every bit; returns whether the game ended."""
    theirs, ours = gym.make("CarRacing-v3", render_mode="rgb_array"), make_env("CarRacing-v3")
    assert type(ours.unwrapped) is not type(theirs.unwrapped)
    assert np.array_equal(theirs.reset(seed=seed)[0], ours.reset(seed=seed)[0])
    for action in actions:
        (frame, reward, ended, *_), step = theirs.step(action), ours.step(action)
        np.testing.assert_array_equal(frame, step[0])
        assert (reward, ended) == step[1:3]
        if ended:
            break
    np.testing.assert_array_equal(theirs.render(), ours.render())
    theirs.close()
    ours.close()
    return bool(ended)


def test_the_quicker_car_racing_draws_the_same_pictures() -> None:
    """While the picture is still zoomed, on the road, sliding, and in the grass."""
    rng = np.random.default_rng(0)
    low, high = np.array([-0.3, 0, 0]), np.array([0.3, 1, 0.1])
    assert not same_pictures(3, rng.uniform(low, high, (150, 3)).astype(np.float32))


def test_the_quicker_car_racing_draws_the_end_of_the_world() -> None:
    """Straight on, until the car leaves the field, whose edge is in the picture by then."""
    assert same_pictures(1, np.tile(np.float32([0.001, 0.6, 0]), (400, 1)))


def test_the_quicker_car_racing_begins_anew() -> None:
    """A second track in the same environment; and other colours, which a reset may choose."""
    pair = (
        gym.make("CarRacing-v3", domain_randomize=True),
        make_env("CarRacing-v3", domain_randomize=True),
    )
    for seed in (1, 2):
        theirs, ours = (env.reset(seed=seed)[0] for env in pair)
        np.testing.assert_array_equal(theirs, ours)
    for env in pair:
        env.close()
