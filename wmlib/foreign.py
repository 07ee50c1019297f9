"""Other people's checkpoints, read without running their code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from wmlib.checkpoints import save_checkpoint

__all__ = ["adopt_checkpoints", "read_weights"]

# All that a file of weights needs to name; storages are torch.load's own affair.
TRUSTED = {("collections", "OrderedDict")}
TRUSTED |= {("torch._utils", f"_rebuild_{kind}") for kind in ("tensor", "tensor_v2", "parameter")}
WRAPPERS = ("_orig_mod", "module")  # what torch.compile and DataParallel put into names
STAGES = ("vae", "mdrnn", "ctrl")


class _Inert:
    """Stands for whatever else a file names, an optimiser or worse; takes all, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name) if (module, name) in TRUSTED else _Inert


PICKLE = SimpleNamespace(
    __name__="trusted_pickle",
    Unpickler=_Unpickler,
    load=lambda file, **kwargs: _Unpickler(file, **kwargs).load(),
)


def read_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights in a checkpoint of ctallec's, of TorchWM's or of another ``torch.save``.

    Such files often hold whole objects beside the weights, optimisers for instance, which
    ``weights_only=True`` refuses. Here they are passed over: nothing that the file names is ever
    imported or called, except what rebuilds tensors.

    Args:
        path: A dict with ``state_dict``, or a state dict itself.

    Returns:
        Tensors on the CPU, named as if ``torch.compile`` and ``DataParallel`` had not
        been there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, or holds no weights.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist: give the path of a checkpoint")
    try:
        payload = torch.load(path, map_location="cpu", weights_only=False, pickle_module=PICKLE)
    except Exception as error:  # foreign bytes raise almost anything
        raise ValueError(
            f"{path} cannot be read as a file of torch.save ({type(error).__name__}); it is "
            "half-written or of another kind: get it again"
        ) from error
    state = payload.get("state_dict", payload) if isinstance(payload, dict) else {}
    if not isinstance(state, dict):
        state = {}
    others = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if not state or others:
        found = others[:3] or type(payload).__name__
        raise ValueError(f"{path} holds no state dict, found {found}: save model.state_dict()")
    plain = {key: ".".join(p for p in key.split(".") if p not in WRAPPERS) for key in state}
    return {plain[key]: value.detach() for key, value in state.items()}


def adopt_checkpoints(
    theirs: str | os.PathLike[str], ours: str | os.PathLike[str]
) -> dict[str, Path]:
    """Write what ``theirs`` holds of ``{vae,mdrnn,ctrl}/best.tar`` into a logdir of ours.

    From there ``load_trained``, the command line and further training take it. C's weights are
    taken as they are: ctallec's C was trained without a squashing map, and drives as it did only
    where its outputs are clipped.

    Args:
        theirs: A folder with the stages' folders; ``checkpoint.tar`` is taken without ``best.tar``.
        ours: The new logdir.

    Returns:
        The new file of each stage that there was.

    Raises:
        FileNotFoundError: If there is no stage.
        ValueError: If a file cannot be read.
    """
    written = {}
    for stage in STAGES:
        files = [Path(theirs) / stage / name for name in ("best.tar", "checkpoint.tar")]
        for file in filter(Path.exists, files):
            written[stage] = Path(ours) / stage / "best.tar"
            save_checkpoint(written[stage], {"state_dict": read_weights(file)})
            break
    if not written:
        raise FileNotFoundError(
            f"{theirs} holds none of {[f'{stage}/best.tar' for stage in STAGES]}: give the folder "
            "that holds these folders"
        )
    return written
