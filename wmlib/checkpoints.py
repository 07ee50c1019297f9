"""Nothing half-written, nothing lost."""

import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

if sys.platform != "win32":
    import fcntl

_Path = str | os.PathLike[str]


@contextmanager
def atomic_path(path: _Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it when the block ends without an error.

    Readers see the old file or the new one, never a part, even when the power fails. The name's
    dot hides it from listings, its process id shows ``locked`` whether that was killed. OSError if
    nothing can be written there; ValueError if ``path`` is a device or a folder.
    """
    path, temporary = Path(path), None
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no ordinary file and is not replaced: name another one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(path.suffix, f".writing-{os.getpid()}-", path.parent)
        os.close(descriptor)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide results from colleagues
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter on a full disk
        raise OSError(
            f"{path} cannot be written ({_reason(error)}); what was finished is kept: make room "
            "there, or name another place, and run the same command again"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: _Path) -> Iterator[None]:
    """Nobody else writes in ``folder`` meanwhile; what killed runs half wrote there is removed.

    The system frees the lock when its holder dies, however it dies. (On Windows there is none.)
    RuntimeError if somebody else holds it; says who.
    """
    path = Path(folder) / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_nlink == 0:  # its holder went just now
                    raise BlockingIOError
        except BlockingIOError as error:
            file.seek(0)
            raise RuntimeError(
                f"{folder} is in use by {file.read() or 'another process'}: wait for it or end it, "
                "or give another folder"
            ) from error
        file.truncate(0)
        print(f"process {os.getpid()} on {platform.node()}", end="", file=file, flush=True)
        for left in path.parent.rglob(".writing-*") if Path("/proc").exists() else ():
            if not Path("/proc", left.name.split("-")[1]).exists():
                left.unlink(missing_ok=True)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def check_room(folder: _Path, size: float, surely: bool = True) -> None:
    """OSError if a disk has no room for ``size`` bytes; only said, if not ``surely`` needed."""
    nearest = next(place for place in (Path(folder) / "x").absolute().parents if place.exists())
    if size > (free := shutil.disk_usage(nearest).free):
        needs = f"{'needs' if surely else 'may need'} {size / 1e6:,.1f} MB"
        text = f"{folder} {needs}, and its disk has {free / 1e6:,.1f} MB left: make room there, "
        text += "or name another place"
        if surely:
            raise OSError(text)
        print(text)


def _reason(error: Exception) -> str:
    """The first sentence of what an error says; torch, for one, gives advice, too."""
    return str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__


@contextmanager
def reading(
    path: _Path, fault: str = "cannot be read", cure: str = "delete or replace it"
) -> Iterator[None]:
    """The door for files: what is wrong with one is a ValueError of its name, fault and cure."""
    try:
        yield
    except Exception as error:  # foreign bytes raise almost anything, zlib.error included
        is_gone = isinstance(error, FileNotFoundError) and str(error.filename) == str(path)
        if is_gone or str(error).startswith(str(path)):
            raise  # it says so itself
        reason = f"{type(error).__name__}: {_reason(error)}"
        raise ValueError(f"{path} {fault} ({reason}); {cure}") from error


def fingerprint(*values: Any) -> str:
    """The SHA-256 of tensors, arrays, numbers, strings, and containers of them, in their order."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            flat = value.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(value, dict):
            digest.update(fingerprint(*value, *value.values()).encode())
        elif isinstance(value, (list, tuple)):
            digest.update(fingerprint(*value).encode())
        else:
            digest.update(f"{value!r};".encode())
    return digest.hexdigest()


def check_fingerprint(found: Any, wanted: str | None) -> None:
    """Raise ValueError unless ``found`` is what was written; what has no checksum passes."""
    if wanted is not None and fingerprint(found) != wanted:
        raise ValueError("its contents do not fit its checksum: a bit flipped, or it was edited")


def save_checkpoint(path: _Path, payload: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them, to be read without pickles of ours.

    ``payload`` has at least ``state_dict``; the versions that wrote it, and a checksum, are added.
    """
    payload = payload | {"versions": versions()}
    with atomic_path(path) as temporary:
        torch.save(payload | {"checksum": fingerprint(payload)}, temporary)


def load_checkpoint(path: _Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``.

    FileNotFoundError if there is none; says which stage writes it. ValueError if the file is
    half-written, damaged, foreign or wants code to be run.
    """
    path = Path(path)
    if not path.exists():
        stage = {"mdrnn": "rnn"}.get(path.parent.name, path.parent.name)  # as --stage names it
        raise FileNotFoundError(
            f"{path} does not exist: run the stage that writes it first (stage {stage!r}), "
            "or correct the logdir"
        )
    fault = "cannot be read as a checkpoint of plain tensors"
    with reading(path, fault, "it is damaged, half-written or foreign: delete or replace it"):
        payload: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        state = payload.get("state_dict") if isinstance(payload, dict) else None
        if not (isinstance(state, dict) and all(isinstance(v, Tensor) for v in state.values())):
            found = sorted(map(str, payload)) if isinstance(payload, dict) else type(payload)
            raise ValueError(
                f"{path} holds no 'state_dict', found {found}: not one of our checkpoints"
            )
        if "checksum" not in payload:
            print(f"{path} has no checksum (of an older version?): damage would go unnoticed")
        check_fingerprint(payload, payload.pop("checksum", None))
    return payload


def write_json(path: _Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; an object gets a checksum.

    ValueError if a number in it is none: JSON has no NaN.
    """
    if isinstance(value, dict):
        value = value | {"checksum": fingerprint(json.dumps(value))}
    with atomic_path(path) as temporary, reading(path, "is not written", "look at the numbers"):
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: _Path, *keys: str) -> Any:
    """Read JSON; with ``keys``, an object that has all of them.

    FileNotFoundError if there is none; ValueError if it is not JSON, is damaged, or lacks a key.
    """
    with reading(path, "is not JSON of ours", "delete it or restore it"):
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        checksum = value.pop("checksum", None) if isinstance(value, dict) else None
        check_fingerprint(json.dumps(value, allow_nan=False), checksum)
        missing = [key for key in keys if not (isinstance(value, dict) and key in value)]
        if missing:
            raise ValueError(f"{path} holds no {missing}: not one of our files; move it away")
    return value


def load_weights(model: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load a state dict; ValueError names the first name, shape, kind or value that is amiss."""
    wanted = model.state_dict()
    for key in sorted(wanted.keys() ^ state.keys()):
        where = "is missing from" if key in wanted else "is unknown to the model, but stands in"
        raise ValueError(f"{key} {where} {origin}: another model's weights; replace that file")
    for key, value in wanted.items():
        found = state[key]
        if value.shape != found.shape:
            raise ValueError(
                f"{origin}: {key} is {tuple(found.shape)}, the model wants "
                f"{tuple(value.shape)}; make the sizes in the configuration those of the file"
            )
        if found.is_floating_point() != value.is_floating_point() or not found.isfinite().all():
            raise ValueError(
                f"{origin}: {key} holds something that is no number ({found.dtype}): the file is "
                "damaged, or its training went wrong; delete or replace it"
            )
    model.load_state_dict(state)


def check_averages(adam: torch.optim.Optimizer) -> None:
    """ValueError if Adam's averages are not as large as its weights: it would write beyond them."""
    for weight in adam.param_groups[0]["params"]:
        for average in (adam.state[weight][key] for key in ("exp_avg", "exp_avg_sq")):
            if average.shape != weight.shape or not average.isfinite().all():
                raise ValueError("Adam's averages do not fit the weights")


def check_settings(origin: _Path, recorded: dict[str, Any], settings: dict[str, Any]) -> None:
    """ValueError if a stage is to go on with another setting than it began with; names both."""
    for key, value in settings.items():
        if recorded.get(key, value) != value:
            raise ValueError(
                f"{origin} was recorded with {key} = {recorded[key]}, now {value}; "
                "give the old value to go on, or another folder to begin anew"
            )


def versions() -> dict[str, str]:
    """What a result was made with."""
    packages = ("torch", "gymnasium", "numpy", "cma")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
