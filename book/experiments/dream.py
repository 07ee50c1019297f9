"""C evolved in dreams at five temperatures, and then tried in the game.

``python book/experiments/dream.py [STARTS]`` writes ``dream.csv`` beside itself, row by row, and
goes on where it stopped: a row of other settings is made again. For each τ and each seed of the
search: what the last CMA mean scores in fresh dreams at its own τ, in the first steps of eight
fresh tracks, and in whole laps on others. The rows without a τ are C at zero and the shipped C, on
the same tracks: what the scores can be compared with. Chapter 09 shows the figures. STARTS is a
folder of recorded episodes that dreams begin in; the shipped episode of random play if it is left
out, as in the chapter. A search and its trials take some 36 seconds of one core.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import numpy as np
import torch

import wmlib
from wmlib.checkpoints import atomic_path, fingerprint
from wmlib.vector_envs import choose_backend

TAUS, SEEDS = (0.1, 0.5, 1.0, 1.15, 1.3), 5
GENERATIONS, SIGMA0 = 40, 0.1
POPULATION, DREAMS, DREAM_STEPS = 16, 8, 200
FRESH_DREAMS, FRESH_TRACKS, REAL_STEPS = 32, 8, 300
LAPS, LAP_STEPS = 16, 1000
NAMES = ("tau", "seed", "dreamed", "first", "lap", "settings")
TABLE = Path(__file__).with_suffix(".csv")

Row = tuple[str, ...]  # one value for each of NAMES


def evolve(dream: wmlib.DreamEvaluator, seed: int) -> np.ndarray:
    """The last CMA mean (P,)."""
    search = wmlib.Search(np.zeros(867), sigma0=SIGMA0, pop_size=POPULATION, seed=seed)
    for generation in range(GENERATIONS):
        moments = range(1000 * generation, 1000 * generation + DREAMS)
        search.tell(dream(search.ask(), moments).returns.mean(axis=1))
    return search.mean


class Game:
    """The real game: the beginnings of eight fresh tracks, and whole laps on others."""

    def __init__(self, agent: wmlib.Agent, env_name: str) -> None:
        self.short = wmlib.LocalEvaluator(agent, env_name, time_limit=REAL_STEPS)
        self.whole = wmlib.LocalEvaluator(agent, env_name, time_limit=LAP_STEPS)

    def first(self, driver: np.ndarray) -> float:
        """Mean return of the first steps."""
        tracks = [wmlib.episode_seed("select", 5, i) for i in range(FRESH_TRACKS)]
        return float(self.short(driver[None], tracks).returns.mean())

    def lap(self, driver: np.ndarray) -> float:
        """Mean return of whole laps."""
        tracks = [wmlib.episode_seed("select", 6, i) for i in range(LAPS)]
        return float(self.whole(driver[None], tracks).returns.mean())

    def close(self) -> None:
        """End the environments."""
        self.short.close()
        self.whole.close()


class Trials:
    """The searches and the two known drivers, each made once and tried in the same way."""

    def __init__(self, starts: list[wmlib.Rollout]) -> None:
        world = wmlib.load_pretrained()
        self.starts, self.agent = starts, world.agent(device="cpu")
        self.game = Game(self.agent, world.env_name)
        shipped = wmlib.flatten_parameters(world.controller.parameters())
        self.known = {"zero": np.zeros_like(shipped), "shipped": shipped}
        weights = [model.state_dict() for model in (world.vae, world.mdrnn, world.controller)]
        constants = (GENERATIONS, SIGMA0, POPULATION, DREAMS, DREAM_STEPS, FRESH_DREAMS,
                     FRESH_TRACKS, REAL_STEPS, LAPS, LAP_STEPS)  # fmt: skip
        played = [(rollout.observations, rollout.actions) for rollout in starts]
        backend = choose_backend(world.env_name, "auto", None)
        self.settings = fingerprint(constants, weights, played, backend)[:12]

    def row(self, tau: str, seed: str) -> Row:
        """Make one row of the table."""
        if not tau:
            driver, dreamed = self.known[seed], ""
        else:
            dream = wmlib.DreamEvaluator(
                self.agent, self.starts, temperature=float(tau), time_limit=DREAM_STEPS
            )
            driver = evolve(dream, int(seed))
            returns = dream(driver[None], range(50_000, 50_000 + FRESH_DREAMS)).returns
            dreamed = str(round(float(returns.mean())))
        scores = self.game.first(driver), self.game.lap(driver)
        return (tau, seed, dreamed, *(str(round(score)) for score in scores), self.settings)


def read_table(settings: str) -> dict[tuple[str, str], Row]:
    """The rows of these settings that there are, by τ and seed."""
    if not TABLE.exists():
        return {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [tuple(row) for row in csv.reader(file)][1:]
    return {(row[0], row[1]): row for row in rows if row[-1] == settings}


def write_table(rows: list[Row]) -> None:
    """All of it, or nothing."""
    with atomic_path(TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([NAMES, *rows])


def main() -> None:
    """Make what is missing of the table."""
    torch.set_num_threads(1)
    folder = wmlib.load_pretrained().folder / "rollouts/random"
    files = wmlib.rollout_files(sys.argv[1] if sys.argv[1:] else folder)
    trials = Trials([wmlib.read_rollout(file) for file in files])
    rows = read_table(trials.settings)
    searches = [(str(tau), str(seed)) for tau in TAUS for seed in range(SEEDS)]
    order = [("", name) for name in trials.known] + searches
    for place in sorted(order, key=lambda place: (place[0] != "", place[1])):  # all τ by turns
        if place not in rows:
            began = time.perf_counter()
            rows[place] = trials.row(*place)
            write_table([rows[known] for known in order if known in rows])
            print(*rows[place], f"{time.perf_counter() - began:.0f} s", flush=True)
    trials.game.close()


if __name__ == "__main__":
    main()
