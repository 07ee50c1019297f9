"""Players who never look: what keeps in step with them was not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from recipe import LIMIT, OWN

from wmlib.envs import ActionMap, TakeCover
from wmlib.policies import POLICIES
from wmlib.rollouts import read_rollout, rollout_files

# The last one was asked after the searches, when it was seen what C does.
BLIND = ("no-op", "right", "left", "sweep 125", "held", "long-held", "random", "sweep 100")


def long_held(rng: np.random.Generator, actions: ActionMap, steps: int) -> np.ndarray:
    """Uniform actions (T, A), held for 1 to at most 150 steps; some episodes are all short holds.

    Each episode draws its longest hold, and each hold up to that, uniformly in their logarithms.
    Play that never holds a key for long never sees where that leads, and neither does M.
    """
    longest = rng.uniform(np.log(5), np.log(150))
    change = np.zeros(steps, dtype=np.int64)
    t = 0
    while t < steps:
        change[t] = 1
        t += round(float(np.exp(rng.uniform(0, longest))))
    return POLICIES["random"](rng, actions, int(change.sum())).take(change.cumsum() - 1, axis=0)


DRAWN = POLICIES | {"long-held": long_held}


def sweep(period: int, steps: int) -> np.ndarray:
    """Right for so many tics, left for as many, and again: (T, 1)."""
    return np.where(np.arange(steps) // period % 2 == 0, 1.0, -1.0)[:, None].astype(np.float32)


def plans(name: str, seeds: Sequence[int], steps: int = LIMIT) -> np.ndarray:
    """What a blind policy does in each of some games: (N, T, 1)."""
    if name in DRAWN:
        keys = ActionMap(TakeCover.ACTIONS)
        drawn = [DRAWN[name](np.random.default_rng(seed), keys, steps) for seed in seeds]
        return np.stack(drawn).astype(np.float32)
    if name == "replayed":  # what the agent did in other games, over and over
        moves = [read_rollout(path).actions for path in rollout_files(OWN)]
        return np.stack([np.resize(moves[i % len(moves)], (steps, 1)) for i in range(len(seeds))])
    fixed = {
        "no-op": np.zeros((steps, 1), np.float32),
        "right": np.ones((steps, 1), np.float32),
        "left": -np.ones((steps, 1), np.float32),
        "sweep 100": sweep(100, steps),
        "sweep 125": sweep(125, steps),
    }
    return np.repeat(fixed[name][None], len(seeds), axis=0)


class Blind:
    """A blind policy of that name, as ``play_returns`` and ``generate_rollouts`` take it."""

    def __init__(self, name: str, steps: int = LIMIT) -> None:
        self.name, self.steps = name, steps

    def start(self, seeds: Sequence[int]) -> None:
        """Begin a game for each seed."""
        self.plans, self.t = plans(self.name, seeds, self.steps), 0

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Actions (n, 1), without a look at the frames."""
        self.t += 1
        return self.plans[:, self.t - 1].take(rows, axis=0)
