"""What candidates are compared by, and on which tracks."""

from __future__ import annotations

from typing import Any

import numpy as np

MEMORY = 10  # generations for which a track may come back


def mean_ranks(returns: np.ndarray) -> np.ndarray:
    """The share of the others that a candidate beat less the share that beat it; mean over tracks.

    One wrecked lap costs hundreds of points, and a mean return of few tracks says little else than
    who was wrecked. A rank costs it no more than being slowest, and so hears what all the other
    laps have to say. In the end it rewards speed more than care.

    Args:
        returns: (P, E), a row per candidate, a column per track.

    Returns:
        Fitness (P,), from -1 to 1; NaN where returns are.
    """
    beaten = np.sign(returns[:, None] - returns[None]).sum(axis=1) / max(1, len(returns) - 1)
    return np.asarray(beaten.mean(axis=1))


def worst_half(returns: np.ndarray) -> np.ndarray:
    """The mean of the worse half of a candidate's laps: its conditional value at risk.

    What is lost late in a search is lost in a few wrecked laps, and this hears little else.

    Args:
        returns: (P, E).

    Returns:
        Fitness (P,); NaN where returns are.

    Source: Rockafellar & Uryasev (2000), Optimization of conditional value-at-risk.
    """
    worse = np.sort(returns, axis=1)[:, : -(-returns.shape[1] // 2)]
    return np.asarray(np.where(np.isnan(returns).any(axis=1), np.nan, worse.mean(axis=1)))


def telling_tracks(played: list[dict[str, Any]], count: int = 2) -> list[int]:
    """The tracks of the last generations on which candidates differed most.

    The bends that end a lap are too rare to be met on a few fresh tracks, and a track that wrecks
    all candidates, or none, teaches nothing.

    Args:
        played: Of each generation so far its tracks' ``"seeds"`` (E,) and its ``"returns"`` (P, E).
        count: How many to play again.

    Returns:
        Their seeds, the most telling first; none that was fresh more than ten generations ago.
    """
    fresh: dict[int, int] = {}  # in which generation
    spread: dict[int, float] = {}  # when it was last played
    for generation, record in enumerate(played):
        deviations = np.std(record["returns"], axis=0)
        for seed, deviation in zip(record["seeds"], deviations, strict=True):
            fresh.setdefault(seed, generation)
            spread[seed] = float(deviation)
    recent = [seed for seed in fresh if fresh[seed] >= len(played) - MEMORY]
    return sorted(recent, key=lambda seed: -spread[seed])[:count]


def three_telling_tracks(played: list[dict[str, Any]]) -> list[int]:
    """One more of them, for a fitness that reads the worse half."""
    return telling_tracks(played, 3)
