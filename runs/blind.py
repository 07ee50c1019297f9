"""Players without eyes, in a game and in the dream of it: where they differ, the dream is wrong.

Both games' audits are made of this: ``carracing-v3/audit.py`` and ``takecover/train.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmlib.dream import Dream
from wmlib.policies import make_policy

Plans = Callable[[Sequence[int]], np.ndarray]


class Blind:
    """A policy that looks at no frame.

    Args:
        plans: From the seeds of some episodes to what is done in them, told actions (N, T, A).
    """

    def __init__(self, plans: Plans) -> None:
        self.make = plans

    def start(self, seeds: Sequence[int]) -> None:
        """Begin an episode for each seed."""
        self.plans, self.t = self.make(seeds), 0

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Told actions (n, A) of the episodes ``rows``."""
        self.t += 1
        return np.asarray(self.plans[rows, self.t - 1])


def plans_of(
    name: str,
    seeds: Sequence[int],
    space: Any,
    steps: int,
    fixed: Mapping[str, np.ndarray],
    moves: Callable[[], list[np.ndarray]],
) -> np.ndarray:
    """What a blind player does in each of some episodes: told actions (N, T, A).

    Args:
        name: One of ``fixed``; ``"replayed"``; or a policy's name, as ``make_policy`` has it.
        seeds: Of the episodes.
        space: The game's action space.
        steps: T.
        fixed: Plans (T, A) that are the same in every episode.
        moves: Gives what an agent did in other episodes, (T, A) each, for ``"replayed"``; who runs
            out of them begins again.
    """
    if name in fixed:
        return np.repeat(fixed[name][None], len(seeds), axis=0)
    if name == "replayed":
        recorded = moves()
        rows = [recorded[i % len(recorded)] for i in range(len(seeds))]
        return np.stack([np.resize(row, (steps, row.shape[1])) for row in rows])
    policy = make_policy(name, space, steps)
    policy.start(seeds)
    frames, rows = np.zeros(len(seeds)), np.arange(len(seeds))
    return np.stack([policy.act(frames, rows) for _ in range(steps)], axis=1)


@torch.inference_mode()
def dream_on(
    dream: Dream, act: Callable[[int, np.ndarray], Tensor], steps: int, end: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Go on in dreams that have begun, each until M gives its end the probability ``end``.

    Args:
        dream: Where they are; afterwards, where those are that have not ended.
        act: Told actions (n, A) at a step, of the rows (n,) that are left.
        steps: The longest dream.
        end: See above.

    Returns:
        The sum of the rewards that M foretold, and the steps, each (N,).
    """
    count = len(dream.z)
    returns, lengths, rows = np.zeros(count), np.full(count, steps), np.arange(count)
    for t in range(steps):
        _, reward, ends = dream.step(act(t, rows))
        returns[rows] += reward.cpu().numpy()
        going = (ends < end).cpu()
        lengths[rows[~going.numpy()]] = t + 1
        dream.keep(going.to(dream.device))
        rows = rows[going.numpy()]
        if not len(rows):
            break
    return returns, lengths
