"""How to play before one can play."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from wmlib.envs import ActionMap


class Policy(Protocol):
    """What acts on a whole batch of episodes."""

    def start(self, seeds: Sequence[int]) -> None:
        """Begin ``len(seeds)`` episodes, each with its own stream of noise."""

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Told actions (n, A) float32 for frames (n, 64, 64, 3) of the episodes ``rows``."""


def _random(rng: np.random.Generator, actions: ActionMap, steps: int) -> np.ndarray:
    """Independent uniform actions (T, A): what the environment's own ``sample`` gives."""
    actions.space.seed(int(rng.integers(2**31)))
    return actions.from_env(np.stack([actions.space.sample() for _ in range(steps)]))


def _brownian(rng: np.random.Generator, actions: ActionMap, steps: int) -> np.ndarray:
    """Smooth noise (T, A) in the space of C's outputs, around a centre drawn per episode.

    CarRacing's centres are such that the car gets about: some steering bias, 10 to 60 % gas, the
    brake on about 5 % of the steps.
    """
    if actions.is_car:
        gas = rng.uniform(0.1, 0.6)
        centre = np.array([rng.normal(0, 0.1), np.log(gas / (1 - gas)), -1.0])
        spread = np.array([0.3, 0.7, 0.6])
    else:
        centre, spread = rng.normal(0, 0.5, actions.size), np.ones(actions.size)
    memory, noise = 0.92, rng.standard_normal((steps, actions.size))
    for t in range(1, steps):  # first-order autoregression of unit variance
        noise[t] = memory * noise[t - 1] + np.sqrt(1 - memory**2) * noise[t]
    return actions(torch.as_tensor(centre + spread * noise)).numpy()


def _held(rng: np.random.Generator, actions: ActionMap, steps: int) -> np.ndarray:
    """Uniform actions (T, A), each held for 10 steps on average."""
    change = rng.random(steps) < 0.1
    return _random(rng, actions, int(change.sum()) + 1).take(change.cumsum(), axis=0)


# By name; who adds one of their own to the table can name it, too.
POLICIES = {"random": _random, "brownian": _brownian, "held": _held}


class _Planned:
    """A policy without eyes: each episode's actions are drawn when it starts."""

    def __init__(self, name: str, actions: ActionMap, steps: int) -> None:
        self.plan, self.actions, self.steps = POLICIES[name], actions, steps

    def start(self, seeds: Sequence[int]) -> None:
        plans = [self.plan(np.random.default_rng(s), self.actions, self.steps) for s in seeds]
        self.plans: np.ndarray = np.stack(plans).astype(np.float32)  # (N, T, A)
        self.t = 0

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        self.t += 1
        return self.plans[:, self.t - 1].take(rows, axis=0)


class _Called:
    """A reader's own function of one frame."""

    def __init__(self, function: Callable[[np.ndarray], Any], actions: ActionMap) -> None:
        self.function, self.actions = function, actions

    def start(self, seeds: Sequence[int]) -> None: ...

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return self.actions.from_env(np.stack([np.asarray(self.function(f)) for f in frames]))


def make_policy(
    policy: str | Callable[[np.ndarray], Any] | Policy, space: Any, steps: int
) -> Policy:
    """A batch policy from a name, a function of one frame, or what is one already; else ValueError.

    Args:
        policy: ``"random"``, ``"brownian"``, ``"held"``, ``frame -> action``, or an object with
            ``start`` and ``act``, such as an ``Agent``.
        space: The environment's action space.
        steps: Longest episode.
    """
    if isinstance(policy, str) and policy in POLICIES:
        return _Planned(policy, ActionMap(space), steps)
    if hasattr(policy, "start") and hasattr(policy, "act"):
        return policy
    if callable(policy):
        return _Called(policy, ActionMap(space))
    raise ValueError(f"policy must be one of {sorted(POLICIES)} or a function, found {policy!r}")
