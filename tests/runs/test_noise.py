"""A hand that shakes: within bounds, by the episode's own seed."""

import numpy as np
import pytest
from carracing import rooms
from gymnasium.spaces import Box, Discrete

(noise,) = rooms("noise")
CAR = Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))


class Ready:
    """A driver who goes straight on."""

    def start(self, seeds: list[int]) -> None: ...

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([0, 1, 0.5]), (len(rows), 1))


def shaken(seeds: list[int], most: float = 0.3, steps: int = 200) -> np.ndarray:
    policy, rows = noise.NoisyPolicy(Ready(), CAR, most), np.arange(len(seeds))
    policy.start(seeds)
    blind = np.zeros((len(seeds), 64, 64, 3), np.uint8)
    return np.stack([policy.act(blind, rows) for _ in range(steps)], axis=1)


def test_noise_differs_between_episodes_and_stays_within_bounds() -> None:
    told = shaken(list(range(30)))
    assert (told >= CAR.low).all()
    assert (told <= CAR.high).all()
    spreads = told[..., 0].std(1)
    assert spreads.min() < 0.1 < 0.3 < spreads.max()


def test_noise_is_smooth() -> None:
    wheel = shaken([4], most=0.1, steps=2000)[0, :, 0]
    assert np.corrcoef(wheel[:-1], wheel[1:])[0, 1] == pytest.approx(noise.MEMORY, abs=0.03)


def test_noise_follows_from_the_episodes_seed() -> None:
    told = shaken([1, 2, 3])
    np.testing.assert_array_equal(shaken([3, 1]), told[[2, 0]])


def test_without_noise_the_driver_drives() -> None:
    np.testing.assert_array_equal(shaken([1], most=0)[0, 0], np.float32([0, 1, 0.5]))


@pytest.mark.parametrize("space", [Discrete(4), Box(-np.inf, np.inf, (2,))])
def test_a_world_without_bounds_cannot_be_shaken(space: object) -> None:
    with pytest.raises(ValueError, match="NoisyPolicy wants a bounded Box, found"):
        noise.NoisyPolicy(Ready(), space)
