"""Nothing half-written, nothing lost."""

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it when the block ends without an error.

    Readers see the old file or the new one, never a part. The name starts with a dot, so that no
    listing of rollouts or checkpoints takes what a killed run left for one of its own.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=path.suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would hide results from colleagues
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_checkpoint(path: str | os.PathLike[str], payload: dict[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of them, to be read without pickles of ours.

    Args:
        path: ``<logdir>/{vae,mdrnn,ctrl}/{best,checkpoint}.tar``.
        payload: Holds at least ``state_dict``; the versions that wrote it are added.
    """
    with atomic_path(path) as temporary:
        torch.save(payload | {"versions": versions()}, temporary)


def load_checkpoint(
    path: str | os.PathLike[str], map_location: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``.

    Raises:
        FileNotFoundError: If there is none; says which stage writes it.
        ValueError: If the file is half-written, foreign or wants code to be run.
    """
    path = Path(path)
    if not path.exists():
        stage = {"mdrnn": "rnn"}.get(path.parent.name, path.parent.name)  # as --stage names it
        raise FileNotFoundError(
            f"{path} does not exist: run the stage that writes it first (stage {stage!r}), "
            "or correct the logdir"
        )
    try:
        payload = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # foreign bytes raise almost anything, IndexError included
        reason = str(error).partition("\n")[0].partition(". ")[0]  # torch gives advice, too
        raise ValueError(
            f"{path} cannot be read as a checkpoint of plain tensors ({type(error).__name__}: "
            f"{reason}); it is half-written or foreign: delete or replace it"
        ) from error
    if not isinstance(payload, dict) or "state_dict" not in payload:
        found = sorted(map(str, payload)) if isinstance(payload, dict) else type(payload).__name__
        raise ValueError(f"{path} holds no 'state_dict', found {found}: not one of our checkpoints")
    return payload


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike[str], *keys: str) -> Any:
    """Read JSON; with ``keys``, an object that has all of them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not JSON, or lacks a key.
    """
    path = Path(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); delete it or restore it") from error
    missing = [key for key in keys if not (isinstance(value, dict) and key in value)]
    if missing:
        raise ValueError(f"{path} holds no {missing}: not one of our files; move it away")
    return value


def load_weights(model: nn.Module, state: dict[str, Tensor], origin: str) -> None:
    """Load a state dict, comparing names and shapes first.

    Raises:
        ValueError: If they do not fit; names the first difference and both sizes.
    """
    wanted = model.state_dict()
    for key in sorted(wanted.keys() ^ state.keys()):
        where = "is missing from" if key in wanted else "is unknown to the model, but stands in"
        raise ValueError(f"{key} {where} {origin}: another architecture wrote it")
    for key, value in wanted.items():
        if value.shape != state[key].shape:
            raise ValueError(
                f"{origin}: {key} is {tuple(state[key].shape)}, the model wants "
                f"{tuple(value.shape)}; make the sizes in the configuration those of the file"
            )
    model.load_state_dict(state)


def check_settings(
    origin: str | os.PathLike[str], recorded: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Compare what a resumed stage was begun with and what it is asked to go on with.

    Raises:
        ValueError: If they differ; names the first setting that does, and both values.
    """
    for key, value in settings.items():
        if recorded.get(key, value) != value:
            raise ValueError(
                f"{origin} was recorded with {key} = {recorded[key]}, now {value}; "
                "give the old value to go on, or another logdir to begin anew"
            )


def fingerprint(*models: nn.Module, about: Any = "") -> str:
    """Another one for other weights, or for anything else in ``about``."""
    digest = hashlib.sha256(str(about).encode())
    for model in models:
        for value in model.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """What a result was made with."""
    packages = ("torch", "gymnasium", "numpy", "cma")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
