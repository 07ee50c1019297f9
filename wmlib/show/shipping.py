"""A finished run, packed: its weights, its records, episodes to look at, facts for a card."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wmlib.checkpoints import read_json
from wmlib.collect import generate_rollouts
from wmlib.policies import Policy
from wmlib.world import WorldModel, save_pretrained

Players = dict[str, tuple[Policy | str, int, int]]  # by name: policy, episodes, their longest
SEED = 2018  # of the samples' tracks: a run with another seed never collected on them


def pack_weights(folder: Path, world: WorldModel, logdir: Path, records: Iterable[str]) -> None:
    """Empty ``folder``, and put the weights there, and these files of the run in ``logdir``."""
    shutil.rmtree(folder, ignore_errors=True)
    save_pretrained(folder, world)
    for record in records:
        (folder / record).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(logdir / record, folder / record)


def pack_episodes(folder: Path, env_name: str, players: Players) -> None:
    """Play fresh episodes in Gymnasium, into ``rollouts/<player>``."""
    for name, (policy, episodes, limit) in players.items():
        place = folder / "rollouts" / name
        generate_rollouts(
            place, env_name, episodes, limit, seed=SEED, policy=policy, backend="gymnasium"
        )


def facts(folder: Path, world: WorldModel) -> dict[str, Any]:
    """Parameters of V, M and C: ``v``, ``m``, ``c``; and ``v_epochs``, ``v_minutes``, for M too."""
    models = {"v": world.vae, "m": world.mdrnn, "c": world.controller}
    found: dict[str, Any] = {
        name: sum(weight.numel() for weight in model.parameters()) for name, model in models.items()
    }
    for name, stage in (("v", "vae"), ("m", "mdrnn")):
        epochs = read_json(folder / stage / "history.json", "epochs")["epochs"]
        found[f"{name}_epochs"] = len(epochs)
        found[f"{name}_minutes"] = sum(row["seconds"] for row in epochs) / 60
    return found
