"""Which hardware, and which arithmetic on it."""

import contextlib
import functools
import importlib
import os
from typing import Any, TypeVar, cast

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


@functools.cache
def choose_device(name: str) -> torch.device:
    """``"cuda"`` is the GPU if there is one, otherwise the CPU and one line that says so.

    Raises ValueError if torch does not know the name.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; use cuda, cuda:N or cpu") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"device {name!r}: torch sees no GPU here, so the CPU is used")
        return torch.device("cpu")
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster here than float32's, and not switched off.

    ``WMLIB_BF16=0`` in the environment switches them off: every product is then float32.
    """
    return os.environ.get("WMLIB_BF16") != "0" and _is_built_for_bf16(device)


@functools.cache
def _is_built_for_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probe = getattr(torch.cpu, "get_capabilities", dict)  # from torch 2.12 on
    capabilities: dict[str, Any] = probe()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 for the products inside, where it pays; weights and sums stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))


def compiled(model: nn.Module, device: torch.device) -> nn.Module:
    """``torch.compile`` on CUDA. Save the model handed in, not this one: its keys stay plain.

    ``TORCH_COMPILE_DISABLE=1``, torch's own switch, leaves it out.
    """
    return torch.compile(model) if device.type == "cuda" else model  # type: ignore[return-value]


def faster(room: str) -> Any:
    """A room of ``wmlib.fast``, or None where that folder is not there: the one way in.

    ``WMLIB_FAST=0`` in the environment shuts it: everything is computed as it is written.
    """
    if os.environ.get("WMLIB_FAST") == "0":
        return None
    try:
        return importlib.import_module(f"wmlib.fast.{room}")
    except ModuleNotFoundError as error:
        if error.name not in ("wmlib.fast", f"wmlib.fast.{room}"):
            raise
        return None


def quicken(model: Model) -> Model:
    """The same model, computed sooner where ``wmlib.fast`` knows how; otherwise as it is."""
    models = faster("models")
    return model if models is None else cast("Model", models.quicken(model))


def hardware() -> str:
    """The machine in a few words, for reports."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    units = "bf16 units" if has_bf16(torch.device("cpu")) else "no bf16 units"
    return f"CPU, {torch.get_num_threads()} threads, {units}"
