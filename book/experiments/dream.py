"""C evolved in dreams at three temperatures, and then tried in the game.

``python book/experiments/dream.py [STARTS]`` writes ``dream.csv`` beside itself. For each τ and
each seed of the search: what the last CMA mean scores in fresh dreams at its own τ, in the first
steps of eight fresh tracks, and in whole laps on sixteen others. The rows without a τ are C at zero
and the shipped C, on the same tracks: what the scores can be compared with. Chapter 09 shows the
figures. STARTS is a folder of recorded episodes that dreams begin in; the shipped episode of random
play if it is left out, as in the chapter. About seven minutes of one core.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import torch

import wmlib
from wmlib.checkpoints import atomic_path

SEEDS = {0.1: range(5), 0.5: range(5), 1.0: range(2)}  # for each temperature
GENERATIONS = 40
POPULATION, DREAMS, DREAM_STEPS = 16, 8, 200
FRESH_DREAMS, FRESH_TRACKS, REAL_STEPS = 32, 8, 300
LAPS, LAP_STEPS = 16, 1000
NAMES = ("tau", "seed", "dreamed", "first", "lap")


def evolve(dream: wmlib.DreamEvaluator, seed: int) -> np.ndarray:
    """The last CMA mean (P,)."""
    search = wmlib.Search(np.zeros(867), sigma0=0.1, pop_size=POPULATION, seed=seed)
    for generation in range(GENERATIONS):
        moments = range(1000 * generation, 1000 * generation + DREAMS)
        search.tell(dream(search.ask(), moments).returns.mean(axis=1))
    return search.mean


class Game:
    """The real game: the beginnings of eight fresh tracks, and whole laps on sixteen others."""

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


def main() -> None:
    """Run all searches and write the table."""
    torch.set_num_threads(1)
    world = wmlib.load_pretrained()
    files = wmlib.rollout_files(sys.argv[1] if sys.argv[1:] else world.folder / "rollouts/random")
    starts = [wmlib.read_rollout(file) for file in files]
    agent = world.agent(device="cpu")
    game = Game(agent, world.env_name)
    shipped = wmlib.flatten_parameters(world.controller.parameters())
    rows: list[tuple[object, ...]] = [
        ("", name, "", round(game.first(driver)), round(game.lap(driver)))
        for name, driver in (("zero", np.zeros_like(shipped)), ("shipped", shipped))
    ]
    for tau, seeds in SEEDS.items():
        dream = wmlib.DreamEvaluator(agent, starts, temperature=tau, time_limit=DREAM_STEPS)
        for seed in seeds:
            mean = evolve(dream, seed)
            dreamed = dream(mean[None], range(50_000, 50_000 + FRESH_DREAMS)).returns.mean()
            scores = float(dreamed), game.first(mean), game.lap(mean)
            rows.append((tau, seed, *(round(score) for score in scores)))
            print(rows[-1], flush=True)
    game.close()
    target = Path(__file__).with_suffix(".csv")
    with atomic_path(target) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([NAMES, *rows])


if __name__ == "__main__":
    main()
