"""The real world as 64×64 pictures."""

import contextlib
import copy
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import RecordConstructorArgs
from torch import Tensor, nn

from wmlib.devices import faster
from wmlib.pixels import FRAME_SIZE, resize

Answer = TypeVar("Answer")
TIME_LIMIT = 1000  # steps of an episode, where nothing else is said
TAKE_COVER = "VizdoomTakeCover-v1"
# The paper's game: half of its 640 × 480 pixels, its status bar, its start and its time limit.
TAKE_COVER_SETTINGS: dict[str, Any] = {
    "doom_skill": 4,  # the paper's code asks for 5, and its engine knew no more than 4
    "screen_resolution": "RES_320X240",
    "screen_format": "RGB24",
    "render_hud": True,
    **{f"render_{part}": False for part in ("weapon", "crosshair", "decals", "particles")},
    "episode_start_time": 14,
    "episode_timeout": 2100,
}
NO_NUMBER = "an action is no number, and no score comes of it: look at the weights of V, M and C"
PURPOSES = ("collect", "train", "select", "evaluate")


def episode_seed(purpose: str, seed: int, index: int) -> int:
    """The seed of one episode, below 2^31; within a run, each index has its own.

    Each purpose (``collect``, ``train``, ``select``, ``evaluate``) owns a quarter of the range,
    so that no track of a final evaluation was ever trained or selected on, whatever the seeds.

    >>> episode_seed("train", 0, index=1) - episode_seed("train", 0, index=0)
    1

    Raises ValueError if the purpose is none of these.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {PURPOSES}, found {purpose!r}")
    start = int(np.random.SeedSequence([seed, PURPOSES.index(purpose)]).generate_state(1)[0])
    return PURPOSES.index(purpose) * 2**29 + (start + index) % 2**29


class GymImageEnv(gym.ObservationWrapper, RecordConstructorArgs):
    """Any Gymnasium environment, seen as colour pictures of ``size`` (height, width).

    Image observations are resized; of others the rendered picture is shown. Keeps Gymnasium's
    five-tuple ``(observation, reward, terminated, truncated, info)``.

    Raises ValueError if it has neither image observations nor the render mode ``rgb_array``.
    """

    def __init__(self, env: gym.Env, size: tuple[int, int] = FRAME_SIZE) -> None:
        RecordConstructorArgs.__init__(self, size=size)
        gym.ObservationWrapper.__init__(self, env)
        self.size = size
        space: Any = env.observation_space
        is_bytes = isinstance(space, gym.spaces.Box) and space.dtype == np.uint8
        self.is_image = is_bytes and len(space.shape) > 1 and space.shape[2:] in ((), (1,), (3,))
        if not self.is_image and env.render_mode != "rgb_array":
            raise ValueError(
                f"{env} observes {space}, which is no picture, and its render mode is "
                f"{env.render_mode!r}: it must observe pictures, or have the mode 'rgb_array'"
            )
        if not self.is_image:
            self.metadata = {**env.metadata, "render_modes": ["rgb_array"]}
        self.observation_space = gym.spaces.Box(0, 255, (*size, 3), np.uint8)

    def reset(self, **kwargs: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """Gymnasium's; whatever a broken environment raises is a RuntimeError that names it."""
        return self._ask(super().reset, **kwargs)

    def step(self, action: Any) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Gymnasium's; see ``reset``."""
        return self._ask(super().step, action)

    def _ask(self, method: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            *_, at = traceback.extract_tb(error.__traceback__)
            where = f"{at.filename}, line {at.lineno}"
            raise RuntimeError(f"{self.env} failed ({where}): {error!r}") from error

    def observation(self, observation: Any) -> np.ndarray:
        """The picture (*size, 3) uint8 of an observation."""
        picture = np.atleast_3d(np.asarray(observation if self.is_image else self.env.render()))
        if picture.shape[-1] == 1:
            picture = picture.repeat(3, axis=-1)
        return resize(picture, self.size)


class TakeCover(gym.Wrapper[Any, Any, Any, Any]):
    """Doom's TakeCover as the paper played it: dodge fireballs, one point for each tic alive.

    Observations are the top 400 of 480 rows, without the status bar; (200, 320, 3) uint8. An action
    is one whole number: -1 left, 0 stay, 1 right. Only death terminates; the 2,100th tic truncates.
    The engine, in ``env``, shows nothing once a game is over: the last frame is shown again.

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
        with contextlib.ExitStack() as stack:
            if self.scratch is None:  # the engine starts now, and writes where it is
                self.scratch = tempfile.TemporaryDirectory(prefix="vizdoom-")
                stack.enter_context(contextlib.chdir(self.scratch.name))
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


def make_env(env_name: str, **kwargs: Any) -> gym.Env:
    """One Gymnasium environment that can show pictures; ``module:Id`` names work.

    CarRacing-v3 is drawn by ``wmlib.fast`` where that is there: the same game and pictures. For
    ``VizdoomTakeCover-v1``, see ``TakeCover``.

    Raises ValueError if Gymnasium does not know the name, or no longer.
    """
    hint = "use CarRacing-v3" if "CarRacing" in env_name else "see gymnasium.pprint_registry()"
    if kwargs or ":" in env_name:
        hint = f"look at its arguments {kwargs}" if kwargs else "look at its module"
    try:
        if env_name == TAKE_COVER:
            hint = "pip install 'wmlib[doom]'"
            import vizdoom.gymnasium_wrapper  # noqa: F401  # registers it

            settings = {**TAKE_COVER_SETTINGS, **kwargs, "disable_env_checker": True}
            return TakeCover(gym.make(env_name, render_mode="rgb_array", **settings))
        spec: Any = env_name
        if env_name == "CarRacing-v3" and (quicker := faster("car_racing")):
            spec = replace(gym.spec(env_name), entry_point=quicker.QuickCarRacing)
        try:
            return gym.make(spec, render_mode="rgb_array", **kwargs)
        except TypeError as error:
            if "render_mode" not in str(error):
                raise
            return gym.make(spec, **kwargs)  # it cannot render; its observations may be frames
    except Exception as error:  # it is somebody's code: whatever it raises, it is said which
        why = str(error).rstrip(".") if isinstance(error, gym.error.Error) else repr(error)
        raise ValueError(f"environment {env_name!r} cannot be made: {why}; {hint}") from error


def trusted(env_name: str, origin: str | os.PathLike[str]) -> str:
    """A name out of a file; ValueError if it names a module that is not loaded already."""
    module = env_name.rpartition(":")[0]
    if module and module not in sys.modules:
        raise ValueError(
            f"{origin} names the environment {env_name!r}, and making it would run the module "
            f"{module}: if you trust it, `import {module}` first, or name it yourself"
        )
    return env_name


def action_space(env_name: str, **kwargs: Any) -> gym.Space[Any]:
    """The action space of an environment; TakeCover's is known without ViZDoom."""
    if env_name == TAKE_COVER:
        return copy.deepcopy(TakeCover.ACTIONS)
    with contextlib.closing(make_env(env_name, **kwargs)) as env:
        return env.action_space


def make_image_env(env_name: str, **kwargs: Any) -> GymImageEnv:
    """One environment as 64×64 pictures."""
    return GymImageEnv(make_env(env_name, **kwargs))


class ActionMap:
    """From C's free outputs to what the environment executes, which is what M is told.

    The one map per action space of a single environment:

    - CarRacing (a box from [-1, 0, 0] to [1, 1, 1]): steering tanh, gas sigmoid, brake
      clip(tanh, 0, 1). Zero output is half throttle and no brake: a car that moves.
    - a bounded box of whole numbers: tanh, an equal share of its range each; zero is the middle.
    - any other bounded box: tanh, stretched to its bounds; one with unbounded sides: clipped.
    - discrete: the largest output wins; M is told one-hot.

    Attributes:
        size: Number A of C's outputs, and the length of the action M is told.
        is_car, is_bounded, is_whole: Whether this is CarRacing's box, a box with all its sides
            bounded, and such a box of whole numbers.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self.space: Any = space
        self.is_car = self.is_bounded = self.is_whole = False
        if isinstance(space, gym.spaces.Discrete):
            self.size = int(space.n)
        elif isinstance(space, gym.spaces.Box):
            self.size = int(np.prod(space.shape))
            self.low = torch.as_tensor(space.low.reshape(-1), dtype=torch.float32)
            self.high = torch.as_tensor(space.high.reshape(-1), dtype=torch.float32)
            self.is_car = self.low.tolist() == [-1, 0, 0] and self.high.tolist() == [1, 1, 1]
            self.is_bounded = bool(torch.isfinite(self.low).all() & torch.isfinite(self.high).all())
            self.is_whole = self.is_bounded and np.issubdtype(space.dtype, np.integer)
        else:
            raise ValueError(
                f"action space {space} is not supported: Box and Discrete are; "
                "wrap the environment so that it has one of them"
            )

    def __call__(self, outputs: Tensor) -> Tensor:
        """Map outputs (B, A), if all are numbers, to told (B, A): executed values, or one-hot.

        >>> ActionMap(gym.spaces.Discrete(3))(torch.tensor([[0.1, 0.7, 0.2]]))
        tensor([[0., 1., 0.]])
        """
        if not outputs.isfinite().all():
            raise FloatingPointError(NO_NUMBER)
        if isinstance(self.space, gym.spaces.Discrete):
            return nn.functional.one_hot(outputs.argmax(-1), self.size).to(outputs.dtype)
        if self.is_car:
            steer, gas, brake = outputs.unbind(-1)
            return torch.stack([steer.tanh(), gas.sigmoid(), brake.tanh().clamp(0, 1)], dim=-1)
        low, high = self.low.to(outputs), self.high.to(outputs)
        if not self.is_bounded:
            return outputs.clamp(low, high)
        share = (outputs.tanh() + 1) / 2
        if self.is_whole:
            return low + (share * (high - low + 1)).floor().clamp(max=high - low)
        return low + (high - low) * share

    def to_env(self, told: np.ndarray) -> np.ndarray:
        """Told actions (B, A) float32 as the environment takes them: (B, *shape) or (B,) int64."""
        if not np.isfinite(told).all():
            raise FloatingPointError(NO_NUMBER)
        if isinstance(self.space, gym.spaces.Discrete):
            return np.asarray(np.asarray(told).argmax(-1) + int(self.space.start))
        return np.asarray(told, dtype=self.space.dtype).reshape(-1, *self.space.shape)

    def from_env(self, actions: np.ndarray) -> np.ndarray:
        """What the environment takes, (B, …), as told actions (B, A) float32."""
        if isinstance(self.space, gym.spaces.Discrete):
            index = np.asarray(actions, dtype=np.int64).reshape(-1) - int(self.space.start)
            return np.eye(self.size, dtype=np.float32)[index]
        values = np.asarray(actions, dtype=np.float32)  # clipped, as the environment would
        return values.clip(self.space.low, self.space.high).reshape(-1, self.size)
