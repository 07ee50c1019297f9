"""Which hardware, and which arithmetic on it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from typing import Any

import torch
from torch import nn

__all__ = ["autocast", "choose_device", "compiled", "every_gpu", "hardware", "has_bf16"]


@functools.cache
def choose_device(name: str) -> torch.device:
    """``"cuda"`` is the GPU if there is one, otherwise the CPU and one line that says so.

    Raises:
        ValueError: If torch does not know the name.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown; use cuda, cuda:N or cpu") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        print(f"device {name!r}: torch sees no GPU here, so the CPU is used")
        return torch.device("cpu")
    return device


def every_gpu(device: torch.device) -> list[str]:
    """The names of all GPUs where ``"cuda"`` leaves it open which, otherwise that of ``device``."""
    count = torch.cuda.device_count() if device == torch.device("cuda") else 0
    return [f"cuda:{i}" for i in range(count)] or [str(device)]


@functools.cache
def has_bf16(device: torch.device) -> bool:
    """Whether products of bfloat16 are faster here than those of float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probe = getattr(torch.cpu, "get_capabilities", dict)  # from torch 2.12 on
    capabilities: dict[str, Any] = probe()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def autocast(device: torch.device, amp: bool) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 for the products inside, where it pays; weights and sums stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=amp and has_bf16(device))


def compiled(model: nn.Module, device: torch.device, wanted: bool) -> nn.Module:
    """``torch.compile`` on CUDA. Save the model handed in, not this one: its keys stay plain."""
    return torch.compile(model) if wanted and device.type == "cuda" else model  # type: ignore[return-value]


def _keep_freed_memory() -> None:
    """Have glibc keep the blocks that torch frees, rather than hand the large ones back.

    Every step would get them from the system again, page by page: a fifth of M's training time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, gigabyte = -1, -3, 2**30
        mallopt(trim_threshold, gigabyte)
        mallopt(mmap_threshold, gigabyte)


_keep_freed_memory()


def hardware() -> str:
    """The machine in a few words, for reports."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    units = "bf16 units" if has_bf16(torch.device("cpu")) else "no bf16 units"
    return f"CPU, {torch.get_num_threads()} threads, {units}"
