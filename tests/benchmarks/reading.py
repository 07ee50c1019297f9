"""Read shuffled frames from rollouts on disk, in a process of its own; print what it took.

``python reading.py FOLDER``
"""

import json
import resource
import sys
import time

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
    kilobytes = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    print(json.dumps({"rate": frames / seconds, "gigabytes": sum(kilobytes) * 1024 / 1e9}))


if __name__ == "__main__":
    main(sys.argv[1])
