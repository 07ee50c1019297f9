"""The real world as 64×64 pictures."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from wmlib.config import FRAME_SIZE
from wmlib.pixels import resize

__all__ = ["GymImageEnv", "TakeCover", "action_space", "episode_seed", "make_env"]
__all__ += ["make_image_env"]

QUICKER = {"CarRacing-v3": "wmlib.car_racing:QuickCarRacing"}  # with the same pictures
TAKE_COVER = "VizdoomTakeCover-v1"
# The paper's game: half of its 640 × 480 pixels, its status bar, its start and its time limit.
TAKE_COVER_SETTINGS: dict[str, Any] = {
    "doom_skill": 4,  # the paper's code asks for 5, and its engine knew no more than 4
    "screen_resolution": "RES_320X240",
    "screen_format": "RGB24",
    "render_hud": True,
    "render_weapon": False,
    "render_crosshair": False,
    "render_decals": False,
    "render_particles": False,
    "episode_start_time": 14,
    "episode_timeout": 2100,
}
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


class TakeCover(gym.Wrapper[Any, Any, Any, Any]):
    """Doom's TakeCover as the paper played it: dodge fireballs, one point for each tic alive.

    Observations are the top 400 of 480 rows, without the status bar; (200, 320, 3) uint8. An action
    is one whole number: -1 left, 0 stay, 1 right. Only death terminates; the 2,100th tic truncates.
    The engine shows nothing once a game is over: the last frame is shown again.

    Args:
        env: ViZDoom's own environment.

    Source: Ha & Schmidhuber (2018), section 4; their code for crop, skill, start and limit.
    """

    ACTIONS = gym.spaces.Box(-1, 1, (1,), np.int8)
    BUTTONS = (2, 0, 1)  # what ViZDoom calls left, nothing and right

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        height, width, _ = env.observation_space["screen"].shape  # type: ignore[index]
        self.rows = round(height * 400 / 480)
        self.observation_space = gym.spaces.Box(0, 255, (self.rows, width, 3), np.uint8)
        self.action_space = copy.deepcopy(self.ACTIONS)
        self.scratch: tempfile.TemporaryDirectory[str] | None = None

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """See Gymnasium."""
        if self.scratch is None:  # the engine starts now, and writes into the working directory
            self.scratch = tempfile.TemporaryDirectory(prefix="vizdoom-")
            with contextlib.chdir(self.scratch.name):
                observation, info = self.env.reset(**kwargs)
        else:
            observation, info = self.env.reset(**kwargs)
        self.last: np.ndarray = observation["screen"][: self.rows]
        return self.last, info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """See Gymnasium."""
        button = self.BUTTONS[int(np.asarray(action).item()) + 1]
        observation, reward, ended, truncated, info = self.env.step(button)
        if not ended:
            self.last = observation["screen"][: self.rows]
        # ViZDoom calls a game that ran out of time both terminated and truncated.
        return self.last, float(reward), ended and not truncated, truncated, info

    def close(self) -> None:
        """End the engine's process and remove what it wrote."""
        super().close()
        if self.scratch is not None:
            self.scratch.cleanup()
            self.scratch = None


def _make_take_cover(**kwargs: Any) -> TakeCover:
    try:
        import vizdoom.gymnasium_wrapper  # noqa: F401  # registers it
    except ModuleNotFoundError as error:
        raise ValueError(
            f"environment {TAKE_COVER!r} cannot be made: {error}; pip install 'wmlib[doom]'"
        ) from error
    settings = {**TAKE_COVER_SETTINGS, **kwargs}
    env = gym.make(TAKE_COVER, render_mode="rgb_array", disable_env_checker=True, **settings)
    return TakeCover(env)


def make_env(env_name: str, **kwargs: Any) -> gym.Env:
    """One Gymnasium environment that can show pictures; ``module:Id`` names work.

    Where there is a quicker one with the same pictures, it is that one; see ``QuickCarRacing``.
    ``VizdoomTakeCover-v1`` is the paper's game of that name; see ``TakeCover``.

    Raises:
        ValueError: If Gymnasium does not know the name, or no longer.
    """
    if env_name == TAKE_COVER:
        return _make_take_cover(**kwargs)
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


def action_space(env_name: str, **kwargs: Any) -> gym.Space[Any]:
    """The action space of an environment; TakeCover's is known without ViZDoom."""
    if env_name == TAKE_COVER:
        return copy.deepcopy(TakeCover.ACTIONS)
    env = make_env(env_name, **kwargs)
    env.close()
    return env.action_space


def make_image_env(env_name: str, **kwargs: Any) -> GymImageEnv:
    """One environment as 64×64 pictures."""
    return GymImageEnv(make_env(env_name, **kwargs))
