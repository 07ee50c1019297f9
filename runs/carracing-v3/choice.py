"""The last step: which C it is to be, decided on tracks that no search has driven."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wmlib.checkpoints import check_settings, read_json, write_json
from wmlib.evaluators import Evaluator
from wmlib.search import Search

BITE = 4  # tracks driven between two records


def choose(
    folder: Path,
    starts: dict[str, np.ndarray],
    evaluator: Evaluator,
    tracks: Sequence[int],
    how: dict[str, Any],
) -> tuple[str, np.ndarray, float]:
    """Which C, with which constants on gas and brake; and then, on other tracks, on the steering.

    Args:
        folder: For ``choice.json`` and ``steering.json``, which keep every return.
        starts: Flat parameters by name.
        evaluator: Drives them.
        tracks: Seeds; half of them for each question.
        how: ``first``, how many tracks all candidates drive, and the constants for ``gas``,
            ``brake`` and ``steer``.

    Returns:
        Name, parameters and mean return of the winner, the latter on the second half of the tracks.
    """
    half = len(tracks) // 2
    grid = neighbours(starts, gas=how["gas"], brake=how["brake"])
    name = halve(folder / "choice.json", grid, evaluator, tracks[:half], how["first"])
    grid = neighbours({name: grid[name]}, steer=how["steer"])
    path = folder / "steering.json"
    name = halve(path, grid, evaluator, tracks[half:], half // 2)
    return name, grid[name], float(np.mean(read_json(path, "returns")["returns"][name]))


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
    path: Path,
    candidates: dict[str, np.ndarray],
    evaluator: Evaluator,
    tracks: Sequence[int],
    first: int,
) -> str:
    """The best of many by successive halving: all drive a few tracks, the better half more.

    Half of those left stay each time, and the tracks double, until two drive them all: laps are
    spent where candidates are hard to tell apart. ``path`` keeps every return, and what is there is
    not driven again.

    Args:
        path: JSON file for ``tracks``, ``candidates``, and ``returns`` by candidate.
        candidates: Flat parameters by name.
        evaluator: Drives them.
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
            population = np.stack([candidates[name] for name in left])
            driven = evaluator(population, bite, final=True).returns
            for name, laps in zip(left, driven, strict=True):
                returns[name] = returns[name][:done] + laps.round(3).tolist()
            write_json(path, record)
        left.sort(key=lambda name: -float(np.mean(returns[name][:goal])))
        if goal == len(tracks):
            return left[0]
        left, goal = left[: max(2, -(-len(left) // 2))], min(2 * goal, len(tracks))
