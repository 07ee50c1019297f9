"""A world that counts: every frame tells its step, its episode's seed and the action before it.

Whether two things belong together can then be read off the pictures, exactly. The red level is the
number of steps so far, green is the seed modulo 251, blue stands for the latest action. The step
that begins at count t pays t. Episodes end themselves after ``episode_length(seed)`` steps, unless
told otherwise.
"""

from typing import Any

import gymnasium as gym
import numpy as np

LOW, HIGH = np.float32([-2, 0]), np.float32([1, 3])


def episode_length(seed: int) -> int:
    """How many steps the episode of a seed takes: 8 to 14."""
    return 8 + seed % 7


def action_level(action: Any) -> int:
    """The blue level that an action leaves in the next frame: 100 and more, 0 means none yet."""
    return 100 + round(float(np.dot(np.atleast_1d(action), [30, 20][: np.size(action)])))


class CountingEnv(gym.Env):
    """See the module.

    Args:
        render_mode: ``"rgb_array"`` or None.
        discrete: Actions 1 to 4, instead of a box of two.
        pictures: Observe the frame; otherwise the bare count, and the frame is rendered.
        size: Height and width of a frame.
        length: Steps in every episode; 0 leaves it to the seed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012  # as Gymnasium has it

    def __init__(
        self,
        render_mode: str | None = None,
        discrete: bool = False,
        pictures: bool = True,
        size: int = 64,
        length: int = 0,
    ) -> None:
        self.render_mode, self.pictures, self.size, self.length = (
            render_mode,
            pictures,
            size,
            length,
        )
        self.action_space = (
            gym.spaces.Discrete(4, start=1) if discrete else gym.spaces.Box(LOW, HIGH)
        )
        self.observation_space = (
            gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
            if pictures
            else gym.spaces.Box(0, np.inf, (1,), np.float32)
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.seed = int(self.np_random.integers(2**31)) if seed is None else seed
        self.count, self.level = 0, 0
        return self.look(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        assert self.count < self.end(), "stepped after the end of the episode"
        reward, self.level = float(self.count), action_level(action)
        self.count += 1
        return self.look(), reward, self.count == self.end(), False, {}

    def end(self) -> int:
        return self.length or episode_length(self.seed)

    def look(self) -> np.ndarray:
        return self.render() if self.pictures else np.float32([self.count])

    def render(self) -> np.ndarray:
        levels = np.uint8([self.count, self.seed % 251, self.level])
        return np.broadcast_to(levels, (self.size, self.size, 3)).copy()


gym.register("Counting-v0", CountingEnv)
gym.register("CountingDiscrete-v0", CountingEnv, kwargs={"discrete": True})
gym.register("CountingState-v0", CountingEnv, kwargs={"pictures": False})
