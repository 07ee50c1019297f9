"""A rate and its yardstick, measured in turns."""

import functools
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from wmlib.devices import has_bf16

PACKAGES = ("wmlib", "torch", "numpy", "gymnasium", "envpool", "ray")
NOT_MEASURED = "not measured"
CPU = torch.device("cpu")
Rate = Callable[[], float]


@dataclass
class Row:
    """A row of the report; ``value`` and ``yardstick`` are in the same unit."""

    name: str
    value: float | str
    unit: str
    yardstick: float | None
    ratio: float | None
    goal: float | None
    hardware: str
    versions: dict[str, str]


def row(
    name: str,
    value: float,
    unit: str,
    yardstick: float | None,
    goal: float | None,
    device: torch.device = CPU,
) -> Row:
    """A row that was measured here."""
    ratio = None if yardstick is None else value / yardstick
    return Row(name, value, unit, yardstick, ratio, goal, machine(device), versions())


def unmeasured(name: str, unit: str) -> Row:
    """A row for hardware that is not here."""
    return Row(name, NOT_MEASURED, unit, None, None, None, NOT_MEASURED, versions())


@functools.cache
def machine(device: torch.device) -> str:
    """The processor in a few words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    units = "bf16 units" if has_bf16(device) else "no bf16 units"
    return f"{name}, {torch.get_num_threads()} threads, {units}"


@functools.cache
def versions() -> dict[str, str]:
    """Of Python and of what the figures depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def in_turns(rounds: int, work: Rate, yardstick: Rate) -> tuple[float, float]:
    """The medians of two rates. A round of both comes first, and does not count."""
    pairs = [(work(), yardstick()) for _ in range(rounds + 1)][1:]
    works, yardsticks = zip(*pairs, strict=True)
    return statistics.median(works), statistics.median(yardsticks)


def rate(count: float, call: Callable[[], Any], device: torch.device | None = None) -> float:
    """``count`` per second that ``call`` takes."""
    wait = torch.cuda.synchronize if device and device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    call()
    wait()
    return count / (time.perf_counter() - began)


@functools.cache
def _square(device: torch.device) -> torch.Tensor:
    on_gpu = device.type == "cuda"
    dtype, size = (torch.bfloat16, 8192) if on_gpu else (torch.float32, 2048)
    return torch.randn(size, size, device=device, dtype=dtype)


def product_rate(device: torch.device, repeats: int = 3) -> float:
    """The machine's own rate in FLOP/s: of an fp32 2048³ product, on a GPU of a bf16 8192³ one."""
    square = _square(device)

    def products() -> None:
        for _ in range(repeats):
            square @ square

    return rate(2 * len(square) ** 3 * repeats, products, device)


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows with numbers of four digits: what follows is noise."""

    def rounded(value: Any) -> Any:
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return [{key: rounded(value) for key, value in asdict(row).items()} for row in rows]
