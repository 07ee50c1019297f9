"""What waiting threads cost, on an idle machine and beside other work, by how they wait.

PyTorch's threads spin while they wait for each other: on a core that another program wants, they
take its time and their own partner's. ``wmlib`` sets ``GOMP_SPINCOUNT`` before torch loads. Run on
a machine that has nothing else to do: ``python tests/faults/threads.py [--parts idle busy]``.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wmlib.checkpoints import read_json, versions, write_json

REPORT = Path(__file__).with_name("threads.json")
QUIET = 0.3  # of a core: the most that others may have while "idle" is measured
# What is set, and what the table calls it.
SETTINGS: dict[str, dict[str, str]] = {
    "libgomp's own: 300,000 rounds": {"GOMP_SPINCOUNT": "300000"},
    "what wmlib sets: 20,000 rounds": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}
WORK = """
import sys, time
import wmlib
import torch
torch.manual_seed(0)
def rate(step, seconds=4.0):
    for _ in range(5):
        step()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - began)
cell = wmlib.MDRNN(32, 3, 256, 5).to_cell()
hidden, z, a = cell.get_init_hidden(16), torch.randn(16, 32), torch.randn(16, 3)
with torch.inference_mode():
    print(rate(lambda: cell(a, z, hidden)))
vae = wmlib.ConvVAE()
adam, x = torch.optim.Adam(vae.parameters()), torch.rand(32, 3, 64, 64)
def learn():
    adam.zero_grad()
    wmlib.conv_vae_loss_fn(*(lambda r, m, s: (r, x, m, s))(*vae(x))).backward()
    adam.step()
print(rate(learn))
"""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Beside as many processes that want a core each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def others(seconds: float = 2.0) -> float:
    """How many cores are at work while this process sleeps."""

    def worked() -> float:
        ticks = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")

    before = worked()
    time.sleep(seconds)
    return (worked() - before) / seconds


def measure(setting: dict[str, str]) -> tuple[float, float]:
    """Steps per second of M on 16 rows, and of V's training on 32 frames."""
    known = {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"}
    env = {key: value for key, value in os.environ.items() if key not in known} | setting
    done = subprocess.run(
        [sys.executable, "-c", WORK], env=env, capture_output=True, text=True, check=True
    )
    m, v = map(float, done.stdout.split()[-2:])
    return round(m), round(v, 1)


def main() -> None:
    """Measure, and write what was measured; the other part of the report stays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=("idle", "busy"), default=["idle", "busy"])
    parts, cores = parser.parse_args().parts, os.cpu_count() or 1
    report: dict[str, Any] = read_json(REPORT, "rows") if REPORT.exists() else {"rows": []}
    rows = {row["setting"]: row for row in report["rows"]}
    if "idle" in parts and (load := others()) > QUIET:
        raise SystemExit(f"{load:.1f} cores are at work: nothing is idle here; try --parts busy")
    for part in parts:
        with busy(cores if part == "busy" else 0):
            for name, setting in SETTINGS.items():
                m, v = measure(setting)
                row = rows.setdefault(name, {"setting": name})
                row |= {f"m_{part}": m, f"v_{part}": v}
                print(part, row, flush=True)
    order = [rows[name] for name in SETTINGS if name in rows]
    about = {"unit": "steps per second", "cores": cores, "versions": versions()}
    write_json(REPORT, about | {"rows": order})


if __name__ == "__main__":
    main()
