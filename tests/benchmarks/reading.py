"""Read shuffled frames from rollouts on disk, in a process of its own; print what it took.

``python reading.py FOLDER``
"""

import json
import re
import resource
import sys
import time
from pathlib import Path

from wmlib.datasets import Batches, ObservationDataset


def main(folder: str) -> None:
    dataset = ObservationDataset(folder, num_test_files=0)
    few = min(len(dataset), 64_000)
    batches = Batches(dataset, 100, few)
    began = time.perf_counter()
    frames = sum(len(batch) for batch in batches(0))
    seconds = time.perf_counter() - began
    gigabytes = peak_of_this_process() * 1024 / 1e9
    print(json.dumps({"rate": frames / seconds, "gigabytes": gigabytes}))


def peak_of_this_process() -> int:
    """Kilobytes. Linux's ``ru_maxrss`` counts whoever started the process, too; /proc does not."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(sys.argv[1])
