"""A finished run, packed to go with the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wmlib.checkpoints import read_json, write_json
from wmlib.collect import generate_rollouts
from wmlib.policies import Policy
from wmlib.show.plots import read_search
from wmlib.world import WorldModel, load_pretrained, save_pretrained

SEARCHES = ("round1/ctrl", "envpool/ctrl", "ctrl")  # folders of a run's searches, in order
RECORDS = ["vae/history.json", "mdrnn/history.json", "ctrl/choice.json", "ctrl/steering.json"]
RECORDS += [f"{search}/generations.csv" for search in SEARCHES]
# The samples' tracks: a run that was not itself seeded with this number never collected on them.
FRESH = 2018


def pack(
    logdir: Path,
    folder: Path,
    world: WorldModel,
    seed: int,
    others: Sequence[Path] = (),
    episodes: int = 3,
    seq_len: int = 1000,
) -> None:
    """Pack what a run left in ``logdir`` into ``folder``, anew.

    A model card, ``README.md``, says what they are. Episodes are played in Gymnasium with the
    weights as shipped, on fresh tracks: ``episodes`` by the agent in ``rollouts/agent``, and one at
    random, on the first of those tracks, in ``rollouts/random``.

    Args:
        logdir: Of the run.
        folder: Where to, for instance a folder of ``wmlib/pretrained``. Is emptied first.
        world: V, M and the C that was chosen.
        seed: Of the run.
        others: Folders of further runs, whose tests are reported beside this one's.
        episodes: How many of the agent to record.
        seq_len: Longest episode in steps.

    Raises:
        FileNotFoundError: If the run is not finished; names what is missing.
        ValueError: If emptying the folder would delete the run.
    """
    if folder.resolve() in (logdir.resolve(), *logdir.resolve().parents):
        raise ValueError(f"{folder} holds the run {logdir} itself; pack it into another folder")
    for name in [*RECORDS, "report.json", "sight.json", "times.json"]:
        if not (logdir / name).exists():
            raise FileNotFoundError(f"{logdir / name} does not exist: let the run finish first")
    shutil.rmtree(folder, ignore_errors=True)
    save_pretrained(folder, world)
    for name in RECORDS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(logdir / name, folder / name)
    write_json(folder / "searches.json", list(SEARCHES))
    write_json(folder / "report.json", report(logdir, others))
    (folder / "README.md").write_text(card(folder, world, seed), encoding="utf-8")
    players: dict[str, tuple[Policy | str, int]] = {
        "agent": (load_pretrained(folder).agent(), episodes),
        "random": ("random", 1),
    }
    for player, (policy, count) in players.items():
        generate_rollouts(
            folder / "rollouts" / player, world.env_name, count, seq_len,
            seed=FRESH, policy=policy, backend="gymnasium",
        )  # fmt: skip


def report(logdir: Path, others: Sequence[Path] = ()) -> dict[str, Any]:
    """All that was measured: this run's tests, other runs', the ablation, V's sight, the time.

    Returns:
        ``rows``; ``contrasts``, if there was an ablation; ``sight``, see ``look``; ``minutes`` and
        ``core_minutes`` of each stage.
    """
    rows = read_json(logdir / "report.json", "rows")["rows"]
    for other in others:
        beside = read_json(other / "report.json", "rows")["rows"]
        rows += [row for row in beside if row["agent"].startswith("one command")]
    found: dict[str, Any] = {"rows": rows}
    if (logdir / "ablation" / "report.json").exists():
        ablation = read_json(logdir / "ablation" / "report.json", "rows", "contrasts")
        rows += ablation["rows"]
        found["contrasts"] = ablation["contrasts"]
    found["sight"] = read_json(logdir / "sight.json")
    times = read_json(logdir / "times.json")
    for clock in ("seconds", "core_seconds"):
        minutes = {stage: round(taken[clock] / 60, 1) for stage, taken in times.items()}
        found[clock.replace("seconds", "minutes")] = minutes
    return found


CARD = """\
# {name}

V, M and C of Ha & Schmidhuber's World Models (2018) for {env}; `wmlib.load_pretrained("{name}")`
loads them. Made by `make driver SEED={seed}` (`runs/carracing-v3/driver.py`) from nothing but
play, without a hand on it.

| | |
|---|---|
| V, a variational autoencoder | {v:,} parameters, {v_epochs} epochs in {v_minutes:.0f} minutes |
| M, a mixture density LSTM | {m:,} parameters, {m_epochs} epochs in {m_minutes:.0f} minutes |
| C, a linear map | {c:,} parameters, {generations:,} generations of CMA-ES, all searches together |
| environment steps of these | {steps:,} in {c_minutes:.0f} minutes |
| the whole run | {minutes:.0f} minutes, {core_minutes:.0f} of one core, on {hardware} |
| on disk | V and M in fp16, C in fp32, the report's scores are of these files |

| agent | {env} by | tracks | mean, 95 % interval | standard deviation |
|---|---|---|---|---|
{scores}

## Limits

It has seen one game, in 64×64 pixels, and only what random play and its own predecessor met. V
draws only what costs many pixels: the dashboard's small numbers and the squares on the grass are
lost. M's dreams have no map: their tracks never close. Nothing here was made or tested for a real
car.

The weights and episodes are under the repository's licences.
"""


def card(folder: Path, world: WorldModel, seed: int) -> str:
    """What whoever finds the weights should know, from the records beside them."""
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    last = read_search(folder)[-1]
    epochs = {
        stage: read_json(folder / stage / "history.json", "epochs")["epochs"]
        for stage in ("vae", "mdrnn")
    }
    minutes = {stage: sum(row["seconds"] for row in epochs[stage]) / 60 for stage in epochs}
    models = {"v": world.vae, "m": world.mdrnn, "c": world.controller}
    whole = {
        clock: sum(found[clock].values()) - found[clock].get("ablation", 0.0)
        for clock in ("minutes", "core_minutes")
    }
    return CARD.format(
        **{key: sum(p.numel() for p in model.parameters()) for key, model in models.items()},
        name=folder.name,
        env=world.env_name,
        seed=seed,
        v_epochs=len(epochs["vae"]),
        v_minutes=minutes["vae"],
        m_epochs=len(epochs["mdrnn"]),
        m_minutes=minutes["mdrnn"],
        generations=int(last["generation"]),
        steps=int(last["env_steps"]),
        c_minutes=float(last["seconds"]) / 60,
        **whole,
        hardware=found["rows"][0]["hardware"],
        scores="\n".join(
            f"| {row['agent']} | {row['backend']} | {row['episodes']}, seed {row['seed']} "
            f"| {row['mean']:.0f} ± {row['ci95']:.0f} | {row['std']:.0f} |"
            for row in found["rows"]
        ),
    )
