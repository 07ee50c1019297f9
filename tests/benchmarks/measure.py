"""A rate and its yardstick, measured in turns."""

import functools
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from wmlib.devices import has_bf16

PACKAGES = ("wmlib", "torch", "numpy", "gymnasium", "envpool", "ray")
NOT_MEASURED = "not measured"
CPU = torch.device("cpu")
# What torch's products are called: of matrices (mm, addmm, bmm), of pictures, of an LSTM's layer.
PRODUCTS = ("mm", "convolution", "rnn_layer")
Rate = Callable[[], float]


@dataclass
class Row:
    """A row of the report; ``value``, ``yardstick`` and ``limit`` are in the same unit.

    Attributes:
        flop: Floating-point operations of a frame or a step, where the yardstick is a product.
        limit: What the machine's own bf16 product would do in the same operations.
        in_products: Share of torch's time that is spent in products; the rest of it goes into
            what is done with every number one by one.
    """

    name: str
    value: float | str
    unit: str
    yardstick: float | None
    ratio: float | None
    goal: float | None
    hardware: str
    versions: dict[str, str]
    flop: float | None = None
    limit: float | None = None
    in_products: float | None = None


def row(
    name: str,
    value: float,
    unit: str,
    yardstick: float | None,
    goal: float | None,
    device: torch.device = CPU,
    flop: float | None = None,
    in_products: float | None = None,
) -> Row:
    """A row that was measured here; one with ``flop`` gets its yardstick from the ``Products``."""
    ratio = None if yardstick is None else value / yardstick
    measured = name, value, unit, yardstick, ratio, goal, machine(device), versions()
    return Row(*measured, flop, in_products=in_products)


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


def share_of_products(work: Callable[[], Any]) -> float:
    """The share of torch's own time on the CPU that ``work`` spends in products."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    spent = {each.key: each.self_cpu_time_total for each in found.key_averages()}
    products = sum(time for key, time in spent.items() if any(name in key for name in PRODUCTS))
    return products / sum(spent.values())


class Products:
    """The machine's own products of square matrices, in fp32 and in bf16.

    They are sampled between the rounds of every row, and all rows of a run are held against the
    medians of all samples: the machine's mood while one row is measured is no one row's luck.
    """

    def __init__(self) -> None:
        self.samples: dict[tuple[torch.device, torch.dtype], list[float]] = {}

    def sample(self, device: torch.device, repeats: int = 3) -> None:
        """One rate of each kind, in FLOP/s."""
        for dtype in (torch.float32, torch.bfloat16):
            square = _square(device, dtype)

            def products(square: torch.Tensor = square) -> None:
                for _ in range(repeats):
                    square @ square

            found = rate(2 * len(square) ** 3 * repeats, products, device)
            self.samples.setdefault((device, dtype), []).append(found)

    def between(self, rounds: int, work: Rate, device: torch.device) -> float:
        """The median of a rate, with a sample after each round; the first round does not count."""
        found = []
        for _ in range(rounds + 1):
            found.append(work())
            self.sample(device)
        return statistics.median(found[1:])

    def median(self, device: torch.device, dtype: torch.dtype) -> float:
        return statistics.median(self.samples[device, dtype])

    def hold_against(self, rows: list[Row]) -> list[Row]:
        """The rows with their yardstick, ratio and limit, from all samples of their device."""
        done = []
        for row in rows:
            if row.flop is None or isinstance(row.value, str):
                done.append(row)
                continue
            device = torch.device("cuda" if row.name.endswith("_gpu") else "cpu")
            yardstick = self.median(device, torch.float32) / row.flop
            limit = self.median(device, torch.bfloat16) / row.flop
            ratio = row.value / yardstick
            done.append(replace(row, yardstick=yardstick, ratio=ratio, limit=limit))
        return done


@functools.cache
def _square(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    size = 8192 if device.type == "cuda" else 2048
    return torch.randn(size, size, device=device, dtype=dtype)


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows with numbers of four digits: what follows is noise."""

    def rounded(value: Any) -> Any:
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return [{key: rounded(value) for key, value in asdict(row).items()} for row in rows]
