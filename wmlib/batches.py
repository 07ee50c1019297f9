"""Examples gathered into batches, drawn afresh in every epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from wmlib.datasets import (
    LatentSequenceDataset,
    ObservationDataset,
    RolloutDataset,
    SequenceDataset,
)
from wmlib.rollouts import read_rollout

__all__ = ["BufferedSampler", "FrameBatches", "LatentBatches", "WindowBatches", "epoch_seed"]

FRAMES_IN_MEMORY = 2**30  # bytes of frames that the CPU keeps; more are read again in every epoch


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of everything random in one epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class BufferedSampler(Sampler[int]):
    """Shuffles the files, then the examples of ``buffer_size`` files at a time.

    Args:
        dataset: What is to be read.
        seed: Seed of the order.
        size: Examples to draw; 0 is all. They come from as few files as hold them.
    """

    def __init__(self, dataset: RolloutDataset, seed: int = 0, size: int = 0) -> None:
        self.dataset, self.seed = dataset, seed
        self.size = min(size, len(dataset)) or len(dataset)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        rng, left = np.random.default_rng(self.seed), self.size
        files = rng.permutation(len(self.dataset.files))
        begins = np.append(0, self.dataset.ends[:-1])
        for first in range(0, len(files), self.dataset.buffer_size):
            group = files[first : first + self.dataset.buffer_size]
            index = [np.arange(begins[f], self.dataset.ends[f]) for f in group]
            for i in rng.permutation(np.concatenate(index))[:left]:
                yield int(i)
                left -= 1


class FrameBatches:
    """Frames for V: uint8 (B, 64, 64, 3), or floats (B, 3, 64, 64) where there is a transform.

    Frames that fit stay on the device; otherwise one process reads ahead, in bounded memory.

    Args:
        dataset: The frames.
        batch_size: Frames B in a batch.
        size: Frames per epoch; 0 is all.
        seed: Seed of the order.
        device: Where the batches are wanted.
    """

    def __init__(
        self,
        dataset: ObservationDataset,
        batch_size: int,
        size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.dataset, self.batch_size, self.size = dataset, batch_size, size
        self.seed, self.device = seed, device
        budget = FRAMES_IN_MEMORY
        if device.type == "cuda":
            budget = torch.cuda.mem_get_info(device)[0] // 2
        self.frames: Tensor | None = None
        if len(dataset) and dataset.transform is None and len(dataset) * 64 * 64 * 3 <= budget:
            frames = np.empty((len(dataset), 64, 64, 3), dtype=np.uint8)  # never held twice
            for file, end in zip(dataset.files, dataset.ends, strict=True):
                part = read_rollout(file, dataset.alignment).observations
                frames[end - len(part) : end] = part
            self.frames = torch.from_numpy(frames).to(device)

    def __len__(self) -> int:
        frames = min(self.size or len(self.dataset), len(self.dataset))
        return -(-frames // self.batch_size)

    def __call__(self, epoch: int) -> Iterator[Tensor]:
        """The batches of one epoch."""
        if not len(self.dataset):
            return
        order = BufferedSampler(self.dataset, epoch_seed(self.seed, epoch), self.size)
        if self.frames is not None:
            for index in torch.tensor(list(order)).split(self.batch_size):
                yield self.frames[index.to(self.device)]
        else:
            examples = self.dataset if self.dataset.transform else _Raw(self.dataset)
            loader: DataLoader[Any] = DataLoader(
                examples, self.batch_size, sampler=order, num_workers=1, prefetch_factor=8
            )
            for batch in loader:
                yield batch.to(self.device, non_blocking=True)


class _Raw(Dataset[np.ndarray]):
    """Frames as stored: a quarter of the bytes to hand over, converted on the device."""

    def __init__(self, dataset: ObservationDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> np.ndarray:
        return self.dataset.raw(index)


class LatentBatches:
    """Windows for M from latents in memory, z drawn afresh; see ``LatentSequenceDataset.batch``.

    Args:
        dataset: The windows, or None for no batches.
        batch_size: Windows B in a batch.
        size: Windows per epoch; 0 is as many as cover the data once.
        seed: Seed of order and noise.
        shuffle: Draw windows at random; otherwise side by side, with the same noise each time.
    """

    def __init__(
        self,
        dataset: LatentSequenceDataset | None,
        batch_size: int,
        size: int,
        seed: int,
        shuffle: bool,
    ) -> None:
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        total = len(dataset) if dataset else 0
        once = -(-total // dataset.seq_len) if dataset else 0
        self.size = min(size or once, total) if shuffle else once

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """The batches of one epoch."""
        if self.dataset is None:
            return
        generator = torch.Generator()
        generator.manual_seed(epoch_seed(self.seed, epoch if self.shuffle else 0))
        if self.shuffle:
            order = torch.randperm(len(self.dataset), generator=generator)[: self.size]
        else:
            order = torch.arange(0, len(self.dataset), self.dataset.seq_len)
        for index in order.split(self.batch_size):
            yield self.dataset.batch(index, generator)


class WindowBatches:
    """Windows of frames for M, where the latents were not computed beforehand.

    Args:
        dataset: The windows.
        batch_size: Windows B in a batch.
        size: Windows per epoch; 0 is as many as cover the data once.
        seed: Seed of the order.
        shuffle: Draw windows at random; otherwise side by side, the same ones in every epoch.
    """

    def __init__(
        self, dataset: SequenceDataset, batch_size: int, size: int, seed: int, shuffle: bool
    ) -> None:
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        once = -(-len(dataset) // dataset.seq_len)
        self.size = min(size or once, len(dataset)) if shuffle else once

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __call__(self, epoch: int) -> Iterator[list[Tensor]]:
        """The batches of one epoch."""
        order: Iterable[int] = range(0, len(self.dataset), self.dataset.seq_len)
        if self.shuffle:
            order = BufferedSampler(self.dataset, epoch_seed(self.seed, epoch), self.size)
        yield from DataLoader(self.dataset, self.batch_size, sampler=order)
