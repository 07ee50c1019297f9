"""Is CarRacing's dream true? Blind drivers, from one moment on, in the game and in the dream.

``python runs/carracing-v3/audit.py`` lets each of some blind drivers begin on tracks of its own.
After a second or so of the real game (``BEGIN`` steps) the dream begins from what M has seen, and
both go on, with the same actions. What is paid from there on is compared: in the game by the game,
in the dream by M. The table is printed and kept in ``runs/carracing-v3/audit.csv``.

Source: Ha & Schmidhuber (2018), section 5, on dreams that can be cheated.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))
from blind import Blind, dream_on, plans_of

from wmlib.checkpoints import atomic_path
from wmlib.collect import generate_rollouts
from wmlib.dream import Dream
from wmlib.rollouts import Rollout, read_rollout
from wmlib.world import WorldModel, load_pretrained

ENV = "CarRacing-v3"
DATA, TABLE = Path("data/audit"), Path(__file__).with_name("audit.csv")
BEGIN, STEPS = 60, 300  # real steps before the dream, and steps compared
TEMPERATURES = (0.5, 1.0, 1.15)
SEEING = "C, which sees"
BLIND = ("random", "held", "straight", "gas only", "replayed")


def fixed(steps: int) -> dict[str, np.ndarray]:
    """Plans (T, 3) that never change: steer, gas, brake."""
    told = {"straight": (0.0, 0.3, 0.0), "gas only": (0.0, 1.0, 0.0)}
    return {name: np.tile(np.float32(action), (steps, 1)) for name, action in told.items()}


def drives(world: WorldModel, player: str, games: int) -> list[Rollout]:
    """The real episodes of a player; what C did in others is driven first, for who replays it."""
    steps = BEGIN + STEPS
    policy: Any = world.agent()
    if player != SEEING:

        def plans(seeds: Sequence[int]) -> np.ndarray:
            def moves() -> list[np.ndarray]:
                return [drive.actions for drive in drives(world, SEEING, games)]

            return plans_of(player, seeds, world.space(), steps, fixed(steps), moves)

        policy = Blind(plans)
    folder = DATA / player.replace(" ", "-").replace(",", "")
    seed = 2040 + [SEEING, *BLIND].index(player)  # each player has tracks of its own
    paths = generate_rollouts(folder, ENV, games, steps, games, seed, policy)
    return [read_rollout(path) for path in paths]


def dreamed(
    world: WorldModel, episodes: list[Rollout], player: str, tau: float
) -> tuple[np.ndarray, np.ndarray]:
    """What M foretells for some real episodes from ``BEGIN`` on: rewards and steps, each (N,)."""
    dream = Dream(world.vae, world.cell, episodes, tau, burn_in=BEGIN)
    dream.begin_at([(number, BEGIN) for number in range(len(episodes))])
    # A drive that left the field is over. M may not know: in the dream its last action is kept.
    last = [np.minimum(np.arange(BEGIN, BEGIN + STEPS), len(drive) - 1) for drive in episodes]
    moves = [drive.actions[rows] for drive, rows in zip(episodes, last, strict=True)]
    plan = torch.from_numpy(np.stack(moves))  # (N, T, A)
    agent = world.agent(device=str(dream.device))

    def act(t: int, rows: np.ndarray) -> Tensor:
        if player == SEEING:
            return agent.decide(dream.z, dream.hidden)
        return plan[rows, t].to(dream.device)

    return dream_on(dream, act, STEPS)


def audit(world: WorldModel, games: int) -> list[dict[str, Any]]:
    """A row for each player and temperature."""
    rows = []
    for player in (*BLIND, SEEING):
        episodes = drives(world, player, games)
        real = np.array([drive.rewards[BEGIN:].sum() for drive in episodes])
        for tau in TEMPERATURES:
            found, steps = dreamed(world, episodes, player, tau)
            error = (found - real).std(ddof=1) / np.sqrt(len(real))
            row: dict[str, Any] = {"player": player, "tau": tau, "games": len(real)}
            row |= {"real": real.mean(), "real_std": real.std(ddof=1)}
            row |= {"dream": found.mean(), "dream_std": found.std(ddof=1)}
            row |= {"difference": (found - real).mean(), "ci95": 1.96 * error}
            row |= {"real_steps": np.mean([len(drive) - BEGIN for drive in episodes])}
            row |= {"dream_steps": steps.mean()}
            row = {k: v if isinstance(v, str | int) else round(float(v), 2) for k, v in row.items()}
            rows.append(row)
    return rows


def main() -> None:
    """Audit the shipped driver's dream; print the table and keep it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--games", type=int, default=32, help="of each player")
    parser.add_argument("--name", default="carracing-v3", help="shipped weights, or a folder")
    args = parser.parse_args()
    rows = audit(load_pretrained(args.name), args.games)
    with atomic_path(TABLE) as path, path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    for row in rows:
        print(
            f"{row['player']:14} τ {row['tau']:<5} game {row['real']:6.1f} ± {row['real_std']:5.1f}"
            f"   dream {row['dream']:6.1f} ± {row['dream_std']:5.1f}"
            f"   difference {row['difference']:+7.1f} ± {row['ci95']:4.1f}"
            f"   steps {row['real_steps']:.0f}, {row['dream_steps']:.0f}"
        )


if __name__ == "__main__":
    main()
