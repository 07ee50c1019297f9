"""A training that is killed again and again ends where an undisturbed one does."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tiny import Bench, contents, finish, start, train

import wmlib.checkpoints
from wmlib.checkpoints import load_checkpoint, read_json
from wmlib.rollouts import read_rollout

Case = tuple[str, str]  # what was done; what went wrong, empty if nothing did
MOST = 60  # kills of one training, after which it is left in peace


def _fuse(rng: np.random.Generator) -> None:
    """Die at one of the next moments at which a file is half written, whole, or just renamed."""
    left, moment = int(rng.integers(1, 9)), int(rng.integers(3))
    sync, replace = os.fsync, Path.replace

    def burn() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def cut(descriptor: int) -> None:
        if moment == 0:
            size = os.fstat(descriptor).st_size
            if left == 1:
                os.ftruncate(descriptor, size // 2)
            burn()
        sync(descriptor)
        if moment == 1:
            burn()

    def renamed(self: Path, target: Path) -> Path:
        path = replace(self, target)
        if moment == 2:
            burn()
        return path

    wmlib.checkpoints.os.fsync, Path.replace = cut, renamed  # type: ignore[assignment, method-assign]


def _half_written(folder: Path) -> str:
    """The first finished file that cannot be read."""
    readers = {".tar": load_checkpoint, ".json": read_json}
    for path in folder.rglob("*"):
        if path.name.startswith(".") or "tensorboard" in path.parts:
            continue
        try:
            if path.suffix == ".npz" and "latents" not in path.parts:
                read_rollout(path)
            readers.get(path.suffix, lambda path: None)(path)
        except ValueError as error:
            return str(error)
    return ""


def kills(bench: Bench, cases: int, instant: bool) -> Iterator[Case]:
    """Kill at file operations, or (``instant``) at any time, until ``cases`` kills are done."""
    done, name = 0, "any instant" if instant else "at a file"
    while done < cases:
        folder, here = bench.fresh(), 0
        wrong = ""
        while True:
            seed = int(bench.rng.integers(2**31))
            in_peace = here >= MOST or done >= cases

            def work(seed: int = seed, in_peace: bool = in_peace, folder: Path = folder) -> None:
                if not in_peace and not instant:
                    _fuse(np.random.default_rng(seed))
                train(folder)

            child, pipe = start(work)
            if instant and not in_peace:
                time.sleep(float(bench.rng.uniform(0.005, 0.4)))
                os.kill(child, signal.SIGKILL)
            outcome = finish(child, pipe)
            wrong = wrong or _half_written(folder)
            if outcome.kind == "killed":
                here, done = here + 1, done + 1
                continue
            if outcome.kind != "done":
                wrong = wrong or outcome.text
            break
        if not wrong and (found := contents(folder)) != bench.wanted:
            names = found.keys() | bench.wanted.keys()
            other = [name for name in sorted(names) if found.get(name) != bench.wanted.get(name)]
            wrong = f"the end is not the straight run's: {other}"
        left = [path.name for path in folder.rglob(".writing-*")]
        wrong = wrong or (f"left behind: {left}" if left else "")
        yield from ((f"kill {name}", "") for _ in range(here - bool(wrong)))
        yield from [(f"kill {name}", wrong)] if wrong else []


def kills_at_files(bench: Bench, cases: int) -> Iterator[Case]:
    """SIGKILL while a file is half written, when it is whole, and just after its renaming."""
    return kills(bench, cases, instant=False)


def kills_at_any_instant(bench: Bench, cases: int) -> Iterator[Case]:
    """SIGKILL at random instants of all stages."""
    return kills(bench, cases, instant=True)
