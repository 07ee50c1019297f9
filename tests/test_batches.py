"""Batches drawn afresh in every epoch, the same ones whenever that epoch is run again."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import wmlib.batches
from torch import Tensor
from wmlib.batches import BufferedSampler, FrameBatches, LatentBatches, WindowBatches, epoch_seed

from wmlib.datasets import LatentSequenceDataset, ObservationDataset, SequenceDataset

CPU = torch.device("cpu")
SEQ = 4


@pytest.fixture
def frames(counted: Path) -> ObservationDataset:
    return ObservationDataset(counted, buffer_size=3, num_test_files=0)


def colours(batch: Tensor) -> list[tuple[int, ...]]:
    """The stored levels of frames: uint8 (B, 64, 64, 3) or floats (B, 3, 64, 64)."""
    if batch.dtype != torch.uint8:
        batch = (batch * 255).round().permute(0, 2, 3, 1)
    return [tuple(map(int, level)) for level in batch[:, 0, 0]]


def colours_of(batches: list[Tensor]) -> list[tuple[int, ...]]:
    return [colour for batch in batches for colour in colours(batch)]


# ---------------------------------------------------------------------------------- the order


def test_an_epoch_has_its_own_seed() -> None:
    seeds = {epoch_seed(seed, epoch) for seed in range(10) for epoch in range(100)}
    assert len(seeds) == 1000
    assert epoch_seed(3, 4) == epoch_seed(3, 4)


@pytest.mark.parametrize("buffer_size", [1, 3, 100])
def test_the_sampler_gives_every_example_once(counted: Path, buffer_size: int) -> None:
    dataset = ObservationDataset(counted, buffer_size=buffer_size, num_test_files=0)
    sampler = BufferedSampler(dataset)
    assert sorted(sampler) == list(range(len(dataset)))
    assert len(sampler) == len(dataset)


def test_the_sampler_stays_within_a_buffer_of_files(frames: ObservationDataset) -> None:
    files = [frames.locate(index)[0] for index in BufferedSampler(frames)]
    groups = []
    while files:
        group = set()
        while files and len(group | {files[0]}) <= frames.buffer_size:
            group.add(files.pop(0))
        groups.append(group)
    assert [len(group) for group in groups] == [3, 3, 3, 1]
    assert len(set.union(*groups)) == 10


def test_the_sampler_shuffles_files_and_examples(frames: ObservationDataset) -> None:
    order = list(BufferedSampler(frames, seed=0))
    assert order != sorted(order)
    files = [frames.locate(index)[0] for index in order]
    assert sum(a != b for a, b in pairwise(files)) > 30  # not file by file
    assert list(BufferedSampler(frames, seed=0)) == order
    assert list(BufferedSampler(frames, seed=1)) != order


@pytest.mark.parametrize(("size", "drawn"), [(5, 5), (70, 70), (10_000, None), (0, None)])
def test_the_sampler_draws_as_many_as_asked(
    frames: ObservationDataset, size: int, drawn: int | None
) -> None:
    sampler = BufferedSampler(frames, size=size)
    order = list(sampler)
    assert len(order) == len(set(order)) == len(sampler) == (drawn or len(frames))


def test_nothing_to_sample(counted: Path) -> None:
    empty = ObservationDataset(counted, train=False, num_test_files=0)
    assert list(BufferedSampler(empty)) == []
    assert list(FrameBatches(empty, 4, 0, 0, CPU)(0)) == []
    assert len(FrameBatches(empty, 4, 0, 0, CPU)) == 0


# --------------------------------------------------------------------------------- frames for V


def from_memory(*args) -> FrameBatches:
    batches = FrameBatches(*args)
    assert (batches.frames is None) == (wmlib.batches.FRAMES_IN_MEMORY == 0)
    return batches


@pytest.fixture(params=["memory", "disk"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Frames that fit into memory, and frames that a process reads ahead from disk."""
    if request.param == "disk":
        monkeypatch.setattr(wmlib.batches, "FRAMES_IN_MEMORY", 0)
    return request.param


@pytest.mark.usefixtures("either")
def test_an_epoch_of_frames_is_complete(frames: ObservationDataset) -> None:
    batches = from_memory(frames, 16, 0, 0, CPU)
    drawn = list(batches(0))
    assert len(batches) == len(drawn) == -(-len(frames) // 16)
    assert {(batch.dtype, batch.shape[1:]) for batch in drawn} == {(torch.uint8, (64, 64, 3))}
    expected = Counter(tuple(frames.raw(i)[0, 0].tolist()) for i in range(len(frames)))
    assert Counter(colours_of(drawn)) == expected


@pytest.mark.usefixtures("either")
def test_epochs_differ_and_repeat(frames: ObservationDataset) -> None:
    """A resumed run sees the batches of the straight one."""
    batches = from_memory(frames, 16, 20, 0, CPU)
    epochs = [colours_of(list(batches(epoch))) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert len(epochs[0]) == 20
    assert len(batches) == 2


def test_memory_and_disk_give_the_same_batches(
    frames: ObservationDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = colours_of(list(from_memory(frames, 16, 0, 0, CPU)(3)))
    monkeypatch.setattr(wmlib.batches, "FRAMES_IN_MEMORY", 0)
    assert colours_of(list(from_memory(frames, 16, 0, 0, CPU)(3))) == inside


def test_frames_in_memory_are_held_once(frames: ObservationDataset) -> None:
    batches = from_memory(frames, 16, 0, 0, CPU)
    assert len(batches.frames) == len(frames)
    assert not frames.buffer


def test_transformed_frames_are_floats(counted: Path) -> None:
    dataset = ObservationDataset(counted, lambda frame: frame / 3, num_test_files=0)
    drawn = list(FrameBatches(dataset, 16, 0, 0, CPU)(0))
    assert {(batch.dtype, batch.shape[1:]) for batch in drawn} == {(torch.float32, (3, 64, 64))}
    expected = Counter(tuple(colours(dataset[i][None])[0]) for i in range(len(dataset)))
    assert Counter(colours_of(drawn)) == expected


# ------------------------------------------------------------------------------- windows for M


@pytest.fixture(scope="module")
def latents() -> LatentSequenceDataset:
    """Two episodes of 30 and 21 steps; mu tells the row, sigma is one."""
    rows = np.arange(51, dtype=np.float32)[:, None].repeat(2, axis=1)
    return LatentSequenceDataset(
        {
            "latents": 1000 * rows,
            "logsigmas": np.zeros_like(rows),
            "actions": rows,
            "rewards": rows[:, 0],
            "terminals": np.zeros(51),
            "episode_starts": np.array([0, 30]),
            "final_latents": np.zeros((2, 2)),
            "final_logsigmas": np.zeros((2, 2)),
        },
        SEQ,
    )


def starts(batches: list) -> list[int]:
    """Which step each window begins with."""
    return [int(start) for _, _, reward, _, _ in batches for start in reward[:, 0]]


def test_shapes_of_latent_batches(latents: LatentSequenceDataset) -> None:
    z, action, reward, terminal, z_next = next(LatentBatches(latents, 3, 0, 0, shuffle=True)(0))
    assert z.shape == action.shape == z_next.shape == (3, SEQ, 2)
    assert reward.shape == terminal.shape == (3, SEQ)


def test_an_epoch_of_latents_covers_the_data_once(latents: LatentSequenceDataset) -> None:
    batches = LatentBatches(latents, 4, 0, 0, shuffle=True)
    drawn = list(batches(0))
    assert len(starts(drawn)) == -(-len(latents) // SEQ)
    assert len(drawn) == len(batches)
    assert len(set(starts(drawn))) == len(starts(drawn))


@pytest.mark.parametrize(("size", "drawn"), [(10, 10), (10_000, 27 + 18)])
def test_latent_batches_draw_as_many_as_asked(
    latents: LatentSequenceDataset, size: int, drawn: int
) -> None:
    batches = LatentBatches(latents, 4, size, 0, shuffle=True)
    found = starts(list(batches(0)))
    assert len(found) == len(set(found)) == drawn
    assert len(batches) == -(-drawn // 4)


def same(one: list, other: list) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


def test_order_and_noise_are_the_epochs_own_fault_16(latents: LatentSequenceDataset) -> None:
    """Fault 16: one stored sample of z. Each epoch draws z again, and a resumed one as before."""
    batches = LatentBatches(latents, 4, 0, 7, shuffle=True)
    first, second, again = list(batches(0)), list(batches(1)), list(batches(0))
    assert same(first, again)
    assert starts(first) != starts(second)
    noise = [
        {
            int(s): float(z[0, 0] - 1000 * s)
            for part in drawn
            for z, s in zip(part[0], part[2][:, 0], strict=True)
        }
        for drawn in (first, list(LatentBatches(latents, 4, 45, 7, shuffle=True)(1)))
    ]
    assert all(noise[0][s] != noise[1][s] for s in noise[0])
    assert not same(first, list(LatentBatches(latents, 4, 0, 8, shuffle=True)(0)))


def test_held_out_latents_are_the_same_in_every_epoch(latents: LatentSequenceDataset) -> None:
    batches = LatentBatches(latents, 4, 0, 7, shuffle=False)
    first, second = list(batches(0)), list(batches(1))
    assert same(first, second)
    assert starts(first) == sorted(starts(first))
    assert len(first) == len(batches)


def test_nothing_held_out_gives_no_batches() -> None:
    batches = LatentBatches(None, 4, 0, 0, shuffle=False)
    assert len(batches) == 0
    assert list(batches(0)) == []


@pytest.fixture
def windows(counted: Path) -> SequenceDataset:
    return SequenceDataset(counted, seq_len=SEQ, num_test_files=0)


def test_an_epoch_of_windows_covers_the_data_once(windows: SequenceDataset) -> None:
    batches = WindowBatches(windows, 4, 0, 0, shuffle=True)
    drawn = list(batches(0))
    assert len(drawn) == len(batches)
    assert sum(len(batch[0]) for batch in drawn) == -(-len(windows) // SEQ)
    assert drawn[0][0].shape == drawn[0][4].shape == (4, SEQ, 3, 64, 64)
    assert same(drawn, list(batches(0)))
    assert not same(drawn, list(batches(1)))


@pytest.mark.parametrize("size", [6, 10_000])
def test_windows_are_no_more_than_there_are(windows: SequenceDataset, size: int) -> None:
    batches = WindowBatches(windows, 4, size, 0, shuffle=True)
    drawn = sum(len(batch[0]) for batch in batches(0))
    assert drawn == min(size, len(windows))
    assert len(batches) == -(-drawn // 4)


def test_held_out_windows_are_the_same_in_every_epoch(windows: SequenceDataset) -> None:
    batches = WindowBatches(windows, 4, 0, 0, shuffle=False)
    first = list(batches(0))
    assert same(first, list(batches(1)))
    assert len(first) == len(batches)


def test_no_windows_give_no_batches(counted: Path) -> None:
    empty = SequenceDataset(counted, train=False, seq_len=SEQ, num_test_files=0)
    for shuffle in (True, False):
        assert list(WindowBatches(empty, 4, 0, 0, shuffle)(0)) == []
