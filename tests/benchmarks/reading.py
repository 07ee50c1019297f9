"""Read shuffled frames from rollouts on disk, in a process of its own; print what it took.

``python reading.py FOLDER``
"""

import json
import re
import resource
import sys
import time
from pathlib import Path

import torch
import wmlib.batches

from wmlib.datasets import ObservationDataset


def main(folder: str) -> None:
    wmlib.batches.FRAMES_IN_MEMORY = 0
    dataset = ObservationDataset(folder, num_test_files=0)
    few = min(len(dataset), 64_000)
    batches = wmlib.batches.FrameBatches(dataset, 100, few, seed=0, device=torch.device("cpu"))
    began = time.perf_counter()
    frames = sum(len(batch) for batch in batches(0))
    seconds = time.perf_counter() - began
    reader = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    kilobytes = peak_of_this_process() + reader
    print(json.dumps({"rate": frames / seconds, "gigabytes": kilobytes * 1024 / 1e9}))


def peak_of_this_process() -> int:
    """Kilobytes. Linux's ``ru_maxrss`` counts whoever started the process, too; /proc does not."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1])
