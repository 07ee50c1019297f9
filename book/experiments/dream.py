"""C evolved in dreams at two temperatures, and tried in the world on the way.

``python book/experiments/dream.py [STARTS]`` writes ``dream.csv`` beside itself: at some
generations of each search, what the CMA mean scores in fresh dreams at its own τ, and in the first
steps of eight fresh tracks. Chapter 09 shows the figures. STARTS is a folder of recorded episodes
that dreams begin in; the shipped ones if it is left out. The figures in the repository were made
with three noisy drives of the first round. About a minute and a half of one core.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import torch

import wmlib
from wmlib.checkpoints import atomic_path

TEMPERATURES = (0.1, 1.0)
CHECKED = (5, 10, 20, 30, 40)  # generations
POPULATION, DREAMS, DREAM_STEPS = 16, 8, 200
FRESH_DREAMS, FRESH_TRACKS, REAL_STEPS = 32, 8, 300
NAMES = ("tau", "generation", "dreamed", "real")


def evolve(dream: wmlib.DreamEvaluator) -> np.ndarray:
    """The CMA means (len(CHECKED), P) at the generations that are checked."""
    search = wmlib.Search(np.zeros(867), sigma0=0.1, pop_size=POPULATION, seed=0)
    means = []
    for generation in range(CHECKED[-1]):
        moments = range(1000 * generation, 1000 * generation + DREAMS)
        search.tell(dream(search.ask(), moments).returns.mean(axis=1))
        if generation + 1 in CHECKED:
            means.append(search.mean)
    return np.stack(means)


def main() -> None:
    """Run both searches and write the table."""
    torch.set_num_threads(1)
    world = wmlib.load_pretrained()
    files = wmlib.rollout_files(sys.argv[1] if sys.argv[1:] else world.folder / "rollouts/agent")
    starts = [wmlib.read_rollout(file) for file in files]
    agent = world.agent(device="cpu")
    game = wmlib.LocalEvaluator(agent, world.env_name, time_limit=REAL_STEPS)
    tracks = [wmlib.episode_seed("select", 5, i) for i in range(FRESH_TRACKS)]
    rows = []
    for tau in TEMPERATURES:
        dream = wmlib.DreamEvaluator(agent, starts, temperature=tau, time_limit=DREAM_STEPS)
        means = evolve(dream)
        dreamed = dream(means, range(50_000, 50_000 + FRESH_DREAMS)).returns.mean(axis=1)
        real = game(means, tracks).returns.mean(axis=1)
        for generation, *scores in zip(CHECKED, dreamed, real, strict=True):
            rows.append((tau, generation, *(round(float(score)) for score in scores)))
    game.close()
    target = Path(__file__).with_suffix(".csv")
    with atomic_path(target) as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([NAMES, *rows])


if __name__ == "__main__":
    main()
