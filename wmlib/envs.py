"""The real world as 64×64 pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from wmlib.config import FRAME_SIZE
from wmlib.pixels import resize

__all__ = ["GymImageEnv", "episode_seed", "make_env", "make_image_env"]

QUICKER = {"CarRacing-v3": "wmlib.car_racing:QuickCarRacing"}  # with the same pictures
PURPOSES = ("collect", "train", "select", "evaluate")


def episode_seed(purpose: str, seed: int, index: int) -> int:
    """The seed of one episode, below 2^31.

    Each purpose (``collect``, ``train``, ``select``, ``evaluate``) owns a quarter of the range,
    so that no track of a final evaluation was ever trained or selected on, whatever the seeds.
    Within a run, each index has its own.

    Raises:
        ValueError: If the purpose is none of these.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {PURPOSES}, found {purpose!r}")
    start = int(np.random.SeedSequence([seed, PURPOSES.index(purpose)]).generate_state(1)[0])
    return PURPOSES.index(purpose) * 2**29 + (start + index) % 2**29


class GymImageEnv(gym.ObservationWrapper, RecordConstructorArgs):
    """Any Gymnasium environment, seen as 64×64 colour pictures.

    Image observations are resized; of other environments the rendered picture is shown. Keeps
    Gymnasium's five-tuple ``(observation, reward, terminated, truncated, info)``.

    Args:
        env: The environment; without image observations it must render ``rgb_array``.
        size: Height and width of the pictures.

    Raises:
        ValueError: If the environment has no pictures to show.
    """

    def __init__(self, env: gym.Env, size: tuple[int, int] = FRAME_SIZE) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        gym.ObservationWrapper.__init__(self, env)
        self.size = size
        space = env.observation_space
        self.is_image = (
            isinstance(space, gym.spaces.Box)
            and space.dtype == np.uint8
            and (len(space.shape) == 2 or (len(space.shape) == 3 and space.shape[-1] in (1, 3)))
        )
        if not self.is_image and env.render_mode != "rgb_array":
            raise ValueError(
                f"{env} observes {space}, which is no picture, and its render mode is "
                f"{env.render_mode!r}: make it with render_mode='rgb_array'"
            )
        if not self.is_image:
            self.metadata = {**env.metadata, "render_modes": ["rgb_array"]}
        self.observation_space = gym.spaces.Box(0, 255, (*size, 3), np.uint8)

    def observation(self, observation: Any) -> np.ndarray:
        """The picture (*size, 3) uint8 of an observation."""
        picture = np.asarray(observation if self.is_image else self.env.render())
        if picture.ndim == 2:
            picture = picture[..., None]
        if picture.shape[-1] == 1:
            picture = picture.repeat(3, axis=-1)
        return resize(picture, self.size)


def make_env(env_name: str, **kwargs: Any) -> gym.Env:
    """One Gymnasium environment that can show pictures; ``module:Id`` names work.

    Where there is a quicker one with the same pictures, it is that one; see ``QuickCarRacing``.

    Raises:
        ValueError: If Gymnasium does not know the name, or no longer.
    """
    try:
        spec: Any = env_name
        if env_name in QUICKER:
            spec = replace(gym.spec(env_name), entry_point=QUICKER[env_name])
        try:
            return gym.make(spec, render_mode="rgb_array", **kwargs)
        except TypeError as error:
            if "render_mode" not in str(error):
                raise
            return gym.make(spec, **kwargs)  # it cannot render; its observations may be frames
    except (gym.error.Error, ModuleNotFoundError) as error:
        hint = "use CarRacing-v3" if "CarRacing" in env_name else "see gymnasium.pprint_registry()"
        raise ValueError(f"environment {env_name!r} cannot be made: {error}; {hint}") from error


def make_image_env(env_name: str, **kwargs: Any) -> GymImageEnv:
    """One environment as 64×64 pictures."""
    return GymImageEnv(make_env(env_name, **kwargs))
