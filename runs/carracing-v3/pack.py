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

from wmlib.plots import SEARCHES, read_search

from wmlib.collect import generate_rollouts
from wmlib.policies import Policy
from wmlib.pretrained import FOLDER, WorldModel, load_pretrained, load_trained, save_pretrained

__all__ = ["ship"]

RECORDS = ("report.json", "vae/history.json", "mdrnn/history.json", "ctrl/generations.csv")
# What a run in two rounds, of several searches, or with an ablation, has more.
EARLIER = [f"{part}/generations.csv" for part in (*SEARCHES[:-1], "ablation/*")]
EARLIER += ["ctrl/picked.csv"]  # candidates that the last search was chosen from
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

    A model card, ``README.md``, says what they are. Episodes are played with the weights as
    shipped, on fresh tracks: ``episodes`` by the agent in ``rollouts/agent``, and one at random, on
    the first of those tracks, in ``rollouts/random``.

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
    more = (path.relative_to(logdir) for pattern in EARLIER for path in logdir.glob(pattern))
    for record in [*map(Path, RECORDS), *more]:
        (folder / record).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(logdir / record, folder / record)
    (folder / "README.md").write_text(card(folder, world), encoding="utf-8")
    players: dict[str, tuple[Policy | str, int]] = {
        "agent": (load_pretrained(folder).agent(), episodes),
        "random": ("random", 1),
    }
    for player, (policy, count) in players.items():
        generate_rollouts(
            folder / "rollouts" / player, env_name, count, seq_len,
            seed=FRESH, policy=policy, backend=backend, env_kwargs=env_kwargs,
        )  # fmt: skip


CARD = """\
# {name}

V, M and C of Ha & Schmidhuber's World Models (2018) for {env}; `wmlib.load_pretrained("{name}")`
loads them. Made by the command that is named in the book, from nothing but play.

| | |
|---|---|
| V, a variational autoencoder | {v:,} parameters, {v_epochs} epochs in {v_minutes:.0f} minutes |
| M, a mixture density LSTM | {m:,} parameters, {m_epochs} epochs in {m_minutes:.0f} minutes |
| C, a linear map | {c:,} parameters, {generations:,} generations of CMA-ES, all searches together |
| environment steps of these | {steps:,} in {c_minutes:.0f} minutes |
| hardware | {hardware} |
| on disk | V and M in fp16, C in fp32, the report's scores are of these files |

| agent | {env} by | tracks | mean | standard deviation |
|---|---|---|---|---|
{scores}

## Limits

It has seen one game, in 64×64 pixels, and only what random play and its own predecessors met. Tight
bends taken at speed are what still ends a lap. V draws only what costs many pixels: the dashboard's
small numbers and the squares on the grass are lost. M's dreams have no map: their tracks never
close. Nothing here was made or tested for a real car.

The weights and episodes are under the repository's licences.
"""


def card(folder: Path, world: WorldModel) -> str:
    """What whoever finds the weights should know, from the records beside them."""
    rows = json.loads((folder / "report.json").read_text())["rows"]
    last = read_search(folder)[-1]
    epochs = {
        stage: json.loads((folder / stage / "history.json").read_text())["epochs"]
        for stage in ("vae", "mdrnn")
    }
    minutes = {stage: sum(row["seconds"] for row in epochs[stage]) / 60 for stage in epochs}
    models = {"v": world.vae, "m": world.mdrnn, "c": world.controller}
    return CARD.format(
        **{key: sum(p.numel() for p in model.parameters()) for key, model in models.items()},
        name=folder.name,
        env=world.env_name,
        v_epochs=len(epochs["vae"]),
        v_minutes=minutes["vae"],
        m_epochs=len(epochs["mdrnn"]),
        m_minutes=minutes["mdrnn"],
        generations=int(last["generation"]),
        steps=int(last["env_steps"]),
        c_minutes=float(last["seconds"]) / 60,
        hardware=rows[-1]["hardware"],
        scores="\n".join(
            f"| {row['agent']} | {row['backend']} | {row['episodes']}, seed {row['seed']} "
            f"| {row['mean']:.0f} ± {row['ci95']:.0f} | {row['std']:.0f} |"
            for row in rows
        ),
    )


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
