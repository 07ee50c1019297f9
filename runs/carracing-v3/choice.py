"""The last step: which C it is to be, decided on tracks that no search has driven."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmlib.checkpoints import check_settings, read_json, write_json
from wmlib.search import Search

Drive = Callable[[np.ndarray, Sequence[int]], np.ndarray]  # (P, n) and (E,) seeds to (P, E)
BITE = 4  # tracks driven between two records


def means(search: Path, axes: Callable[[np.ndarray], np.ndarray] | None) -> list[np.ndarray]:
    """The mean of every generation of a recorded search, its start first: it is played again.

    Args:
        search: Its ``search.json``.
        axes: What its coordinates meant.
    """
    state = read_json(search, "settings", "fitness")
    settings = state["settings"]
    start, size = np.array(settings["start"]), settings["pop_size"]
    replayed = Search(start, settings["sigma0"], size, settings["seed"], axes=axes)
    found = [replayed.mean]
    for told in state["fitness"]:
        replayed.tell(np.array(told))
        found.append(replayed.mean)
    return found


def neighbours(starts: dict[str, np.ndarray], **biases: Sequence[float]) -> dict[str, np.ndarray]:
    """Each C with constants added to its outputs before they are squashed, by what was added.

    Args:
        starts: Flat parameters (n,) by name; the last three are the biases.
        biases: Of ``steer``, ``gas`` and ``brake``, in this order: the constants.
    """
    grid = {}
    for (name, flat), constants in itertools.product(
        starts.items(), itertools.product(*biases.values())
    ):
        pairs = zip(biases, constants, strict=True)
        added = [f"{bias} {value:+g}" for bias, value in pairs if value]
        at = [("steer", "gas", "brake").index(bias) - 3 for bias in biases]
        moved = flat.copy()
        moved[at] += constants
        grid[", ".join([name, *added])] = moved
    return grid


def halve(
    path: Path, candidates: dict[str, np.ndarray], drive: Drive, tracks: Sequence[int], first: int
) -> str:
    """The best of many by successive halving: all drive a few tracks, the better half more.

    Half of those left stay each time, and the tracks double, until two drive them all: laps are
    spent where candidates are hard to tell apart. ``path`` keeps every return, and what is there is
    not driven again.

    Args:
        path: JSON file for ``tracks``, ``candidates``, and ``returns`` by candidate.
        candidates: Flat parameters by name.
        drive: Whole laps of a population on the same tracks.
        tracks: Seeds of all of them.
        first: How many of them all candidates drive.

    Returns:
        The name of the candidate with the largest mean return of those that drove all tracks.

    Source: Jamieson & Talwalkar (2016), Non-stochastic best arm identification.
    """
    asked = {"tracks": [int(seed) for seed in tracks], "candidates": list(candidates)}
    record: dict[str, Any] = asked | {"returns": {name: [] for name in candidates}}
    if path.exists():
        record = read_json(path, *record)
        check_settings(path, record, asked)
    returns, left, goal = record["returns"], list(candidates), min(first, len(tracks))
    while True:
        while (done := min(len(returns[name]) for name in left)) < goal:
            bite = tracks[done : min(done + BITE, goal)]
            driven = drive(np.stack([candidates[name] for name in left]), bite)
            for name, laps in zip(left, driven, strict=True):
                returns[name] = returns[name][:done] + laps.round(3).tolist()
            write_json(path, record)
        left.sort(key=lambda name: -float(np.mean(returns[name][:goal])))
        if goal == len(tracks):
            return left[0]
        left, goal = left[: max(2, -(-len(left) // 2))], min(2 * goal, len(tracks))
