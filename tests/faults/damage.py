"""Damaged, foreign and malicious files: each is refused by name or changes nothing.

After a refusal the cure is obeyed: the file is deleted, the command repeated, and the end must be
that of a training whose files nobody touched.
"""

import errno
import io
import json
import os
import resource
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from kills import Case
from tiny import EPISODES, Bench, Settings, contents, train, within
from torch import nn

from wmlib import load_pretrained
from wmlib.checkpoints import load_checkpoint, read_json, save_checkpoint, write_json
from wmlib.rollouts import read_rollout
from wmlib.world import WorldModel, save_pretrained

FILES = [f"{stage}/{name}.tar" for stage in ("vae", "mdrnn") for name in ("best", "checkpoint")]
FILES += ["ctrl/best.tar", "ctrl/checkpoint.tar", "ctrl/search.json", "report.json"]
FILES += ["vae/history.json", "mdrnn/history.json", "data/latents/latents_4.npz"]
FILES += [f"data/rollout_{i:06d}.npz" for i in range(EPISODES)]
READERS: dict[str, Callable[[Path], Any]] = {
    ".tar": load_checkpoint, ".json": read_json, ".npz": read_rollout,
}  # fmt: skip


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


PHYSICAL: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "empty": lambda data, rng: b"",
    "cut": lambda data, rng: data[: int(rng.integers(1, len(data)))],
    "zeros": lambda data, rng: bytes(len(data)),
    "garbage": lambda data, rng: rng.bytes(len(data)),
    "hole": lambda data, rng: data[: len(data) // 3] + bytes(64) + data[len(data) // 3 + 64 :],
    "one bit": flip,
}


def judge(bench: Bench, folder: Path, path: Path, reads: bool) -> str:
    """What is wrong with how a training takes a damaged file; empty if nothing is."""
    text = ""
    if reads:  # the file alone, whether a stage would look at it or not
        outcome = within(lambda: READERS[path.suffix](path))
        if outcome.kind == "crash":
            return outcome.text.splitlines()[-1]
        text = outcome.text if outcome.kind == "error" else ""
        if text and path.name not in text:
            return f"the file is not named: {text}"
    for _ in range(4):
        outcome = within(lambda: train(folder))
        if outcome.kind == "done":
            break
        if outcome.kind != "error":
            return f"{outcome.kind}: {outcome.text.splitlines()[-1]}"
        if path.name not in outcome.text:
            return f"the file is not named: {outcome.text}"
        path.unlink(missing_ok=True)  # the cure
    else:
        return f"the cure does not help: {outcome.text}"
    return "" if contents(folder) == bench.wanted else "another result, and nothing is said"


def stage_of(name: str) -> str:
    """Where a training is stopped so that it reads this file when it goes on."""
    stage = name.partition("/")[0]
    return {"data": "mdrnn" if "latents" in name else "vae"}.get(
        stage, stage if "/" in name else "all"
    )


def physical(bench: Bench, cases: int) -> Iterator[Case]:
    """Every kind of damage to the bytes of every kind of file."""
    for number in range(cases):
        name = FILES[number % len(FILES)]
        kind = list(PHYSICAL)[number // len(FILES) % len(PHYSICAL)]
        folder = bench.fresh(stage_of(name))
        path = folder / name
        path.write_bytes(PHYSICAL[kind](path.read_bytes(), bench.rng))
        yield f"{kind}: {name}", judge(bench, folder, path, "latents" not in name)


def _tensor(value: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], Any]:
    """Change the first weight."""

    def change(payload: dict[str, Any]) -> None:
        key = next(iter(payload["state_dict"]))
        payload["state_dict"][key] = value(payload["state_dict"][key])

    return change


def _moment(value: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], Any]:
    """Change Adam's average of the first weight."""

    def change(payload: dict[str, Any]) -> None:
        state = payload["optimizer"]["state"][0]
        state["exp_avg"] = value(state["exp_avg"])

    return change


def _put(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda payload: payload.update(values)


def _drop(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda payload: payload.pop(key)


WEIGHTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a weight is NaN": _tensor(lambda w: w * torch.nan),
    "a weight is infinite": _tensor(lambda w: w + torch.inf),
    "a weight is whole numbers": _tensor(lambda w: w.int()),
    "a weight is text": _tensor(lambda w: "text"),
    "a weight is of another shape": _tensor(lambda w: w.flatten()[:3]),
    "a weight too many": lambda payload: payload["state_dict"].update(more=torch.zeros(2)),
    "no weights": _drop("state_dict"),
    "weights are a number": _put(state_dict=5),
}  # fmt: skip
FINDING_2 = "moments of three numbers (finding 2)"
FINDING_8 = "other axes (finding 8)"
STATES = WEIGHTS | {
    FINDING_2: _moment(lambda m: m.flatten()[:3]),
    "moments are NaN": _moment(lambda m: m * torch.nan),
    "moments are text": _moment(lambda m: "text"),
    "optimizer is empty": _put(optimizer={}),
    "optimizer has no state": lambda payload: payload["optimizer"].update(state={}),
    "no optimizer": _drop("optimizer"),
    "scheduler is empty": _put(scheduler={}),
    "scheduler is a number": _put(scheduler=5),
    "early_stopping is text": _put(early_stopping={"best": "text", "num_bad_epochs": "text"}),
    "history is a number": _put(history=5),
    "history is empty": _put(history=[]),
    "history holds NaN": lambda payload: payload["history"][0].update(loss=float("nan")),
    "another seed (finding 10)": lambda payload: payload["config"].update(seed=99),
    "another batch size (finding 10)": lambda payload: payload["config"].update(
        train_batch_size=99, batch_size=99
    ),
    "another environment (finding 10)": _put(env_name="Other-v0"),
    "other rollouts (finding 10)": _put(rollouts=[1, 2]),
}
RECORDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "fitness is a number": _put(fitness=5),
    "fitness is empty": _put(fitness=[]),
    "fitness doubled": lambda record: record.update(fitness=record["fitness"] * 2),
    "a fitness too many": lambda record: record["fitness"][0].append(1.0),
    "rows are null": _put(rows=None),
    "rows are empty": _put(rows=[]),
    "settings are empty": _put(settings={}),
    "settings are a number": _put(settings=5),
    "no fitness": _drop("fitness"),
    "another time_limit (finding 10)": lambda record: record["settings"].update(time_limit=7),
    "another n_samples (finding 10)": lambda record: record["settings"].update(n_samples=7),
    FINDING_8: lambda record: record["settings"].update(axes="others"),
    "start is text": lambda record: record["settings"].update(start="text"),
}
HISTORIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "epochs are a number": _put(epochs=5),
    "epochs are text": _put(epochs="text"),
    "no epochs": _drop("epochs"),
    "finished is text": _put(finished="text"),
}
ARRAYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "rewards are NaN": lambda data: data.update(rewards=data["rewards"] * np.nan),
    "actions are NaN": lambda data: data.update(actions=data["actions"] * np.nan),
    "actions are text": lambda data: data.update(actions=np.array(["text"] * len(data["actions"]))),
    "seed of two numbers": lambda data: data.update(seed=np.array([1, 2])),
    "another seed (finding 10)": lambda data: data.update(seed=np.array(1)),
    "another environment (finding 10)": lambda data: data.update(env_id=np.array("Other-v0 (x)")),
    "frames are cut": lambda data: data.update(observations=data["observations"][:-1]),
    "frames are floats": lambda data: data.update(observations=data["observations"] / 255),
    "the final frame is small": lambda data: data.update(final_observation=np.zeros(3, np.uint8)),
    "no rewards": _drop("rewards"),
    "pickled objects": lambda data: data.update(rewards=np.array([{}, []], dtype=object)),
}
LATENTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "cut short, its fingerprint kept": lambda data: data.update(latents=data["latents"][:-2]),
    "NaN": lambda data: data.update(latents=data["latents"] * np.nan),
    "no episode_starts": _drop("episode_starts"),
    "doubled": lambda data: data.update(latents=data["latents"].repeat(2, 0)),
}


def change_file(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a file says, and sign it anew where it carries a checksum."""
    if path.suffix == ".tar":
        payload = load_checkpoint(path)
        change(payload)
        save_checkpoint(path, payload)
    elif path.suffix == ".json":
        record = read_json(path)
        change(record)
        write_json(path, record)
    else:
        with np.load(path, allow_pickle=False) as archive:
            data = {key: archive[key] for key in archive.files}
        change(data)
        np.savez(path, **data)


def content(bench: Bench, cases: int) -> Iterator[Case]:
    """Whole files, rightly signed, that say what cannot be."""
    table = [(f"{s}/checkpoint.tar", STATES) for s in ("vae", "mdrnn")]
    table += [(f"{s}/best.tar", WEIGHTS) for s in ("vae", "mdrnn", "ctrl")]
    table += [("ctrl/search.json", RECORDS), ("data/rollout_000001.npz", ARRAYS)]
    table += [("data/latents/latents_4.npz", LATENTS)]
    table += [(f"{s}/history.json", HISTORIES) for s in ("vae", "mdrnn")]
    every = [(name, kind, change) for name, kinds in table for kind, change in kinds.items()]
    for number in range(cases):
        name, kind, change = every[number % len(every)]
        folder = bench.fresh(stage_of(name))
        change_file(folder / name, change)
        yield f"{name}: {kind}", judge(bench, folder, folder / name, reads=False)


class _Evil:
    """Pickled, it is a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


class Script(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _bomb(path: Path) -> None:
    """A rollout with a key that nobody asked for, of a gigabyte when unpacked."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (2**30,)}
        )
        with archive.open("more.npy", "w") as file:
            file.write(header.getvalue())
            for _ in range(64):
                file.write(bytes(2**24))


def _memory(work: Callable[[], Any]) -> int:
    """Megabytes that a child needs above what it has."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024


def _refused(work: Callable[[], Any], name: str) -> str:
    """Whether a file is refused by its name, and the next one read as before."""
    outcome = within(work)
    said = outcome.kind == "error" and name in outcome.text
    return "" if said else f"{outcome.kind}: {outcome.text}"


def _loads(bench: Bench, target: Path) -> str:
    refused = _refused(lambda: load_checkpoint(target), target.name)
    good = within(lambda: load_checkpoint(bench.straight / "vae" / "best.tar"))
    return refused or ("" if good.kind == "done" else "the next file cannot be read")


def _calls(bench: Bench, target: Path, mark: Path) -> str:
    torch.save({"state_dict": _Evil(mark)}, target)
    return _loads(bench, target)


def _scripted(bench: Bench, target: Path, mark: Path) -> str:
    torch.jit.save(torch.jit.script(Script()), str(target))
    return _loads(bench, target)


def _bare(bench: Bench, target: Path, mark: Path) -> str:
    target.write_bytes(b"cos\nsystem\n(S'touch %s'\ntR." % str(mark).encode())
    return _loads(bench, target)


def _builds(bench: Bench, target: Path, mark: Path) -> str:
    target.write_bytes(
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__)sb."
    )
    return _loads(bench, target)


def _names_a_module(bench: Bench, target: Path, mark: Path) -> str:
    module, folder = f"evil_{mark.name}", target.parent / "weights"
    (bench.home / f"{module}.py").write_text(f"open({str(mark)!r}, 'w')\n", "utf-8")
    shipped, info = load_pretrained(), {"env_name": f"{module}:X-v0"}
    save_pretrained(folder, WorldModel(shipped.vae, shipped.mdrnn, shipped.controller, info))
    return _refused(lambda: load_pretrained(folder).agent(), module)


def _is_a_bomb(bench: Bench, target: Path, mark: Path) -> str:
    path = target.parents[1] / "data" / "rollout_000000.npz"
    _bomb(path)
    outcome = within(lambda: _memory(lambda: read_rollout(path)))
    return "" if outcome.kind == "done" and outcome.value < 100 else str(outcome)


def _is_a_device(bench: Bench, target: Path, mark: Path) -> str:
    refused = _refused(lambda: write_json("/dev/null", {"rows": []}), "/dev/null")
    return refused or ("" if Path("/dev/null").is_char_device() else "it is gone")


def _is_a_pipe(bench: Bench, target: Path, mark: Path) -> str:
    pipe = target.parent / "pipe.json"
    os.mkfifo(pipe)
    refused = _refused(lambda: write_json(pipe, {"rows": []}), pipe.name)
    return refused or ("" if pipe.is_fifo() else "it is gone")


def flipped_weights(bench: Bench) -> str:
    """What is wrong with how weights with one bit flipped are taken."""
    path = _weights(bench)
    folder = bench.fresh()
    folder.mkdir()
    (folder / path.name).write_bytes(flip(path.read_bytes(), bench.rng))
    wanted = load_pretrained(path.parent).vae.state_dict()
    outcome = within(lambda: _vision(folder))
    same = outcome.kind == "done" and all(
        np.array_equal(outcome.value[key], value.numpy()) for key, value in wanted.items()
    )
    return "" if same or outcome.kind == "error" else "taken as it is"


# Name, and what is done with a file of a finished training; the mark appears if its code runs.
HOSTILE: dict[str, Callable[[Bench, Path, Path], str]] = {
    "a pickle that calls": _calls,
    "TorchScript (finding 1)": _scripted,
    "a bare pickle": _bare,
    "a BUILD on a trusted function (finding 13)": _builds,
    "weights name a module (finding 14)": _names_a_module,
    "a key of a gigabyte (finding 24)": _is_a_bomb,
    "a device as target (finding 20)": _is_a_device,
    "a pipe as target": _is_a_pipe,
    "a flipped bit in weights.safetensors (finding 4)": lambda bench, *_: flipped_weights(bench),
}


def hostile(bench: Bench, name: str, number: int = 0) -> str:
    """What is wrong with how one of these files is taken."""
    folder = bench.fresh("all")
    mark = bench.home / f"mark_{bench.count}"
    target = folder / ["vae/best.tar", "mdrnn/checkpoint.tar", "ctrl/best.tar"][number % 3]
    return HOSTILE[name](bench, target, mark) or ("its code ran" if mark.exists() else "")


def malicious(bench: Bench, cases: int) -> Iterator[Case]:
    """Files that would run code, eat memory, or stand where no file is to be written."""
    for number in range(cases):
        name = list(HOSTILE)[number % len(HOSTILE)]
        yield name, hostile(bench, name, number // len(HOSTILE))


def _vision(folder: Path) -> dict[str, Any]:
    return {key: value.numpy() for key, value in load_pretrained(folder).vae.state_dict().items()}


def _weights(bench: Bench) -> Path:
    """The shipped weights, saved by this wmlib, and so with a checksum."""
    folder = bench.home / "shipped"
    if not folder.exists():
        save_pretrained(folder, load_pretrained())
    return folder / "weights.safetensors"


def _limited(folder: Path, limit: int) -> None:
    """No file may grow beyond a limit."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    train(folder)


def _fails(error: int, call: str) -> Callable[[Path, int], None]:
    """From some moment on, a call of the system fails."""

    def work(folder: Path, limit: int) -> None:
        left, plain = 1 + limit % 40, getattr(os, call)

        def failing(*args: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                raise OSError(error, os.strerror(error))
            return plain(*args)

        setattr(os, call, failing)
        train(folder)

    return work


def _small(folder: Path, limit: int) -> None:
    """The disk has so many bytes left, and whoever asks is told."""
    shutil.disk_usage = lambda path: SimpleNamespace(free=limit // 10)  # type: ignore[assignment]
    train(folder)


FULL: dict[str, Callable[[Path, int], None]] = {
    "a file may not grow": _limited,
    "no space at fsync": _fails(errno.ENOSPC, "fsync"),
    "the disk is read-only": _fails(errno.EROFS, "open"),
    "few bytes are left, and that is said before": _small,
}


def full_disk(bench: Bench, cases: int) -> Iterator[Case]:
    """No room: one sentence that names a place; with room again, all goes on (finding 16)."""
    for number in range(cases):
        name = list(FULL)[number % len(FULL)]
        folder, limit = bench.fresh(), int(bench.rng.integers(200, 30_000))
        outcome = within(lambda: FULL[name](folder, limit))  # noqa: B023
        wrong = ""
        if outcome.kind == "crash" or (outcome.kind == "error" and str(folder) not in outcome.text):
            wrong = f"limit {limit}: {outcome.text}"
        again = within(lambda folder=folder: train(folder))
        if not wrong and (again.kind != "done" or contents(folder) != bench.wanted):
            wrong = f"limit {limit}: not resumed: {again.text}"
        yield f"{name} (finding 16)", wrong


def nan(bench: Bench, cases: int) -> Iterator[Case]:
    """Something that is no number must never get a score (findings 3 and 15)."""
    worlds = ["trial_envs:NaNReward-v0", "trial_envs:LateNaN-v0"]
    for number in range(cases):
        folder = bench.fresh()
        if number % 3 == 2:
            name = "a policy's action is NaN"
            outcome = within(lambda folder=folder: play_nan(folder))
        else:
            world = worlds[number % 3]
            name = f"rewards of {world}"
            outcome = within(lambda folder=folder, world=world: train(folder, Settings(env=world)))
        report = folder / "report.json"
        wrong = "" if outcome.kind == "error" else f"{outcome.kind}: {outcome.text}"
        if report.exists():
            json.loads(report.read_text("utf-8"), parse_constant=lambda name: 1 / 0)
        yield name, wrong


def play_nan(folder: Path) -> None:
    from tiny import ENV

    from wmlib import generate_rollouts

    class Numb:
        def start(self, seeds: Any) -> None: ...

        def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
            return np.full((len(rows), 2), np.nan, np.float32)

    generate_rollouts(folder / "data", ENV, 2, 20, 1, policy=Numb(), display=False)
