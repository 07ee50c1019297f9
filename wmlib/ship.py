"""A finished run, packed to go with the package.

``python -m wmlib.ship results/carracing-v3 carracing-v3`` writes the weights, the report and the
histories of a run under a name that ``load_pretrained`` knows, and records sample episodes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wmlib.collect import generate_rollouts
from wmlib.policies import Policy
from wmlib.pretrained import FOLDER, load_pretrained, load_trained, save_pretrained

__all__ = ["ship"]

RECORDS = ("report.json", "vae/history.json", "mdrnn/history.json", "ctrl/generations.csv")
EARLIER = ("round1/ctrl/generations.csv",)  # of runs in two rounds
# The samples' tracks: a run that was not itself seeded with this number never collected on them.
FRESH = 2018


def ship(
    logdir: Path,
    folder: Path,
    env_name: str = "CarRacing-v3",
    episodes: int = 3,
    seq_len: int = 1000,
    backend: str = "gymnasium",
    **env_kwargs: Any,
) -> None:
    """Pack what a run left in ``logdir`` into ``folder``, anew.

    Episodes are played with the weights as shipped, on fresh tracks: ``episodes`` by the agent in
    ``rollouts/agent``, and one at random, on the first of those tracks, in ``rollouts/random``.

    Args:
        logdir: Holds ``vae``, ``mdrnn``, ``ctrl`` and ``report.json``.
        folder: Where to, for instance a folder of ``wmlib/pretrained``. Is emptied first.
        env_name: Gymnasium id or ``module:Id``.
        episodes: How many of the agent to record.
        seq_len: Longest episode in steps.
        backend: Gymnasium's own environment by default: it is what the book is about.
        env_kwargs: Further arguments of the environment.

    Raises:
        FileNotFoundError: If the run is not finished; names what is missing.
        ValueError: If emptying the folder would delete the run.
    """
    if folder.resolve() in (logdir.resolve(), *logdir.resolve().parents):
        raise ValueError(f"{folder} holds the run {logdir} itself; ship it to another folder")
    world = load_trained(logdir, env_name=env_name, env_kwargs=env_kwargs)
    for name in RECORDS:
        if not (logdir / name).exists():
            raise FileNotFoundError(f"{logdir / name} does not exist: let the run finish first")
    shutil.rmtree(folder, ignore_errors=True)
    save_pretrained(folder, world)
    for name in RECORDS + tuple(name for name in EARLIER if (logdir / name).exists()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(logdir / name, folder / name)
    players: dict[str, tuple[Policy | str, int]] = {
        "agent": (load_pretrained(folder).agent(), episodes),
        "random": ("random", 1),
    }
    for player, (policy, count) in players.items():
        generate_rollouts(
            folder / "rollouts" / player, env_name, count, seq_len,
            seed=FRESH, policy=policy, backend=backend, env_kwargs=env_kwargs,
        )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack a finished run under a name that ``load_pretrained`` knows."""
    parser = argparse.ArgumentParser(prog="python -m wmlib.ship", description=main.__doc__)
    parser.add_argument("logdir", type=Path, help="of the run")
    parser.add_argument("name", help="what load_pretrained shall call it")
    parser.add_argument("--env", default="CarRacing-v3", help="Gymnasium id, or module:Id")
    parser.add_argument("--env_kwargs", type=json.loads, default={}, help="JSON")
    parser.add_argument("--episodes", type=int, default=3, help="of the agent, to be recorded")
    args = parser.parse_args(arguments)
    folder = FOLDER / Path(args.name).name
    ship(args.logdir, folder, args.env, args.episodes, **args.env_kwargs)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
