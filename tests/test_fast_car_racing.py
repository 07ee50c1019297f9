"""CarRacing drawn sooner: Gymnasium's own pictures are the oracle, to the bit."""

import gymnasium as gym
import numpy as np

from wmlib.envs import make_env
from wmlib.fast.car_racing import QuickCarRacing


def same_pictures(seed: int, actions: np.ndarray) -> bool:
    """Whether Gymnasium's CarRacing and ours agree in every bit; returns whether the game ended."""
    theirs, ours = gym.make("CarRacing-v3", render_mode="rgb_array"), make_env("CarRacing-v3")
    assert type(ours.unwrapped) is QuickCarRacing
    assert type(theirs.unwrapped) is QuickCarRacing.__base__
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
