"""Errors as a user reads them, fifty-one of them: ``python tests/faults/errors.py``.

Each should say what was found, where, and what to do. The command line's come with its prompt, the
library's with the call.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import damage
import hands
import numpy as np
import torch
from tiny import Bench, Settings, agent, train, within

import wmlib
from wmlib.checkpoints import load_checkpoint, locked, read_json, save_checkpoint
from wmlib.rollouts import read_rollout

LINES = [
    "--env CarRacing-v2", "--env No-v0", "--env no_module:X-v0", "--env broken_import:E-v0",
    "--env broken_step:E-v0", "--env broken_render:E-v0", "--env_kwargs {",
    '--env_kwargs {"nonsense":1}', "--episodes 0", "--policy nonsense", "--seed -1",
    "--stage nonsense", "--stage rnn", "--report /proc/x/y", "--report /dev/full",
    "--latent_size 0", "--ctrl_sigma0 nan", "--ctrl_pop_size 1", "--device nonsense",
    "--rnn_seq_len 500", "--test", "--test --logdir nowhere", "--nonsense 1",
]  # fmt: skip
ROLLOUT = "data/rollout_000001.npz"
Call = Callable[[Path], Any]


def _damaged(name: str, kind: str) -> Call:
    def call(folder: Path) -> None:
        path = folder / name
        whole, rng = path.read_bytes(), np.random.default_rng(0)
        for _ in range(99):  # a bit may be one of those that hold nothing, between two entries
            path.write_bytes(damage.PHYSICAL[kind](whole, rng))
            damage.READERS[path.suffix](path)

    return call


def _changed(name: str, kind: str, table: dict[str, Any]) -> Call:
    def call(folder: Path) -> None:
        damage.change_file(folder / name, table[kind])
        train(folder)

    return call


def _two(folder: Path) -> None:
    with locked(folder):
        train(folder)


def _full(kind: str) -> Call:
    def call(folder: Path) -> None:
        damage.FULL[kind](folder / "new", 2000)

    return call


def _small(folder: Path) -> None:
    shutil.disk_usage = lambda path: SimpleNamespace(free=10**6)  # type: ignore[assignment]
    config = wmlib.WMVAEConfig(64, 64, data_dir=str(folder / "data"), logdir=str(folder / "new"))
    wmlib.train_convae(config, display=False)


def _other_sizes(folder: Path) -> None:
    state = torch.nn.Linear(3, 2).state_dict()
    save_checkpoint(folder / "vae" / "best.tar", {"state_dict": state})
    agent(folder, Settings())


# Title, and where a training must have stopped for it.
CALLS: list[tuple[str, str, Call]] = [
    ("a checkpoint is cut", "all", _damaged("vae/best.tar", "cut")),
    ("a checkpoint has one flipped bit", "all", _damaged("mdrnn/best.tar", "one bit")),
    ("a checkpoint is empty", "all", _damaged("ctrl/best.tar", "empty")),
    ("a rollout is garbage", "all", _damaged(ROLLOUT, "garbage")),
    ("a report has a flipped bit", "all", _damaged("report.json", "one bit")),
    ("a checkpoint is not there", "all", lambda f: load_checkpoint(f / "vae" / "worst.tar")),
    ("weights are NaN", "mdrnn", _changed("vae/best.tar", "a weight is NaN", damage.WEIGHTS)),
    ("weights are of another model", "mdrnn", _other_sizes),
    (
        "Adam's state is short",
        "vae",
        _changed("vae/checkpoint.tar", damage.FINDING_2, damage.STATES),
    ),
    (
        "a search's record is no list",
        "ctrl",
        _changed("ctrl/search.json", "fitness is a number", damage.RECORDS),
    ),
    (
        "latents are cut",
        "mdrnn",
        _changed("data/latents/latents_4.npz", "cut short, its fingerprint kept", damage.LATENTS),
    ),
    ("V goes on with another seed", "vae", lambda f: train(f, Settings(seed=4))),
    (
        "M goes on with another game's data",
        "mdrnn",
        lambda f: train(f, Settings(env="trial_envs:Paying-v0")),
    ),
    (
        "the search goes on with another time limit",
        "ctrl",
        lambda f: train(f, Settings(time_limit=19)),
    ),
    ("two trainings in one folder", "ctrl", _two),
    ("no space left on the disk", "all", _full("no space at fsync")),
    ("the disk is read-only", "all", _full("the disk is read-only")),
    ("too little space, said before", "all", _small),
    ("a reward is NaN", "", lambda f: train(f, Settings(env="trial_envs:NaNReward-v0"))),
    ("an action is NaN", "", damage.play_nan),
    ("no rollouts", "", lambda f: wmlib.ObservationDataset(f)),
    ("a misspelt field", "", lambda f: wmlib.WMVAEConfig(64, 64, learning_rat=1e-3)),
    ("a frame of another size", "", lambda f: wmlib.WMVAEConfig(96, 96)),
    ("no episodes to score", "", lambda f: wmlib.evaluate("random", hands.ENV, episodes=0)),
    ("unknown weights", "", lambda f: wmlib.load_pretrained("carracing-v9")),
    (
        "a rollout's time is the other way round",
        "all",
        lambda f: read_rollout(f / ROLLOUT, "behind"),
    ),
    ("JSON of somebody else", "all", lambda f: read_json(f / "report.json", "fitness")),
    (
        "a dream from nothing",
        "",
        lambda f: wmlib.Dream(wmlib.ConvVAE(3, 4), wmlib.MDRNNCell(4, 2, 8, 2), []),
    ),
]


def said(bench: Bench) -> Iterator[tuple[str, str]]:
    """What was done, and the error as it was read."""
    for name, problem in hands.typed(bench, LINES):
        line = name.removeprefix("wmlib ")
        yield f"$ {name}", problem or bench.said[line]
    for title, stage, call in CALLS:
        folder = bench.fresh(stage)
        folder.mkdir(exist_ok=True)
        outcome = within(lambda call=call, folder=folder: call(folder))
        text = outcome.text if outcome.kind == "error" else f"{outcome.kind}! {outcome.text}"
        yield f"# {title}", re.sub(rf"{bench.home}/case_\d+", "results", text)


def main() -> None:
    """Print them all, numbered."""
    bench = Bench(0)
    try:
        for number, (what, text) in enumerate(said(bench), 1):
            print(f"{number:2d} {what}\n   {text.replace(str(bench.home), '.')}")
    finally:
        bench.close()


if __name__ == "__main__":
    main()
