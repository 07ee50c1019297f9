"""Episodes cut into examples, examples gathered into batches: exactly which ones, and in time."""

import shutil
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from counting_env import action_level
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import wmlib.datasets
from wmlib.datasets import (
    Batches,
    BufferedSampler,
    LatentSequenceDataset,
    ObservationDataset,
    RolloutDataset,
    SequenceDataset,
    epoch_seed,
    split_point,
)
from wmlib.rollouts import Rollout, read_rollout, rollout_files, save_rollout


@pytest.fixture(scope="module")
def episodes(counted: Path) -> list[Rollout]:
    return [read_rollout(path) for path in rollout_files(counted)]


def levels(frames: Tensor) -> list:
    """Red, green and blue of frames (…, 3, 64, 64), as stored."""
    return (frames[..., 0, 0] * 255).round().int().tolist()


def collated(dataset: Dataset, workers: int) -> list:
    return list(DataLoader(dataset, batch_size=7, num_workers=workers))


# ------------------------------------------------------------------------------------ the split


@pytest.mark.parametrize(
    ("count", "num_test_files", "train"),
    [(10, 3, 7), (10, 9, 1), (10, 0, 10), (1000, 600, 400), (1, 0, 1), (1, 600, 1), (0, 5, 0)],
)
def test_the_last_files_are_held_out(count: int, num_test_files: int, train: int) -> None:
    assert split_point(count, num_test_files) == train


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (9, 1), (10, 1), (25, 2), (600, 60)])
def test_of_too_few_files_a_tenth_is_held_out_fault_11(
    count: int, held_out: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 11: below a number of files the training set was empty, and nothing said so."""
    assert split_point(count, 600) == count - held_out
    assert capsys.readouterr().out == (
        f"{count} files are too few to hold 600 out: held out {held_out}\n"
    )


def test_no_test_files_means_none_fault_22(counted: Path, episodes: list[Rollout]) -> None:
    """Fault 22: ``files[:-0]`` is empty."""
    train, test = (ObservationDataset(counted, train=t, num_test_files=0) for t in (True, False))
    assert len(train) == sum(map(len, episodes))
    assert len(test) == 0
    assert list(test.files) == []


def test_a_negative_number_of_test_files_is_refused(counted: Path) -> None:
    with pytest.raises(ValueError, match="num_test_files must not be negative, found -1"):
        ObservationDataset(counted, num_test_files=-1)


@pytest.mark.parametrize("cls", [RolloutDataset, ObservationDataset, SequenceDataset])
def test_the_split_is_by_file_sorted_and_disjoint_fault_19(cls: type, counted: Path) -> None:
    """Faults 11 and 19: held-out *windows*, and an order that differs between machines."""
    extra = {"seq_len": 4} if cls is SequenceDataset else {}
    train = cls(counted, num_test_files=3, **extra)
    test = cls(counted, train=False, num_test_files=3, **extra)
    files = sorted(counted.glob("*.npz"))
    assert train.files == files[:7]
    assert test.files == files[7:]


# -------------------------------------------------------------------------------- single frames


def test_every_frame_once_and_in_order(counted: Path, episodes: list[Rollout]) -> None:
    dataset = RolloutDataset(counted, num_test_files=0)
    expected = [(episode, t) for episode in episodes for t in range(len(episode))]
    assert len(dataset) == len(expected)
    for item, (episode, t) in zip(dataset, expected, strict=True):
        assert item.keys() == {"observation", "action", "reward", "terminal"}
        assert levels(item["observation"]) == episode.observations[t, 0, 0].tolist()
        np.testing.assert_array_equal(item["action"], episode.actions[t])
        assert item["reward"] == t
        assert item["terminal"] == (t == len(episode) - 1)


def test_frames_are_floats_of_channels_first(counted: Path) -> None:
    frame = RolloutDataset(counted)[0]["observation"]
    assert (frame.shape, frame.dtype) == ((3, 64, 64), torch.float32)
    assert 0 <= frame.min() <= frame.max() <= 1


def test_an_observation_dataset_gives_bare_frames(counted: Path) -> None:
    bare, whole = ObservationDataset(counted), RolloutDataset(counted)
    assert len(bare) == len(whole)
    for i in (0, 20, len(bare) - 1):
        assert torch.equal(bare[i], whole[i]["observation"])
        (stored,) = bare.batch(torch.tensor([i]))
        assert (stored.shape, stored.dtype) == ((64, 64, 3), torch.uint8)
        assert stored[0, 0].tolist() == levels(bare[i])


@pytest.mark.parametrize("cls", [RolloutDataset, ObservationDataset])
def test_indices_count_from_the_end_too_and_end(cls: type, counted: Path) -> None:
    dataset = cls(counted)
    first, last = (str(dataset[i]) for i in (0, len(dataset) - 1))
    assert str(dataset[-len(dataset)]) == first
    assert str(dataset[-1]) == last
    for index in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError, match=f"index {index} of {len(dataset)} examples"):
            dataset[index]


def test_nothing_is_flipped_unasked_fault_14(tmp_path: Path) -> None:
    """Fault 14: horizontal flips mirror the dashboard."""
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    zeros = np.zeros(5, np.float32)
    save_rollout(tmp_path / "r.npz", Rollout(frames, zeros[:, None], zeros, zeros))
    dataset = ObservationDataset(tmp_path)
    for _ in range(5):
        stored = dataset.batch(torch.arange(5))
        np.testing.assert_array_equal(stored, frames)
        shown = torch.stack([dataset[i] for i in range(5)])
        np.testing.assert_array_equal((shown * 255).permute(0, 2, 3, 1), frames)


def test_a_transform_is_any_callable_on_a_frame(counted: Path) -> None:
    dark = lambda frame: frame / 2  # noqa: E731
    assert torch.equal(ObservationDataset(counted, dark)[9], ObservationDataset(counted)[9] / 2)
    plain, darkened = (SequenceDataset(counted, t, seq_len=4)[3] for t in (None, dark))
    for i in (0, 4):
        assert torch.equal(darkened[i], plain[i] / 2)


def test_files_of_other_sizes_and_makers(tmp_path: Path) -> None:
    """96×96 frames without a final one: TorchWM's own rollouts."""
    np.savez(
        tmp_path / "rollout.npz",
        observations=np.full((5, 96, 96, 3), 51, np.uint8),
        actions=np.zeros((5, 3)),
        rewards=np.arange(5.0),
        terminals=np.zeros(5, bool),
    )
    assert levels(ObservationDataset(tmp_path)[4]) == [51, 51, 51]
    windows = SequenceDataset(tmp_path, seq_len=3)
    assert len(windows) == 2  # the last action leads to a frame that nobody knows
    assert windows[1][2].tolist() == [1, 2, 3]


def test_a_half_written_file_is_named(counted: Path, tmp_path: Path) -> None:
    for path in rollout_files(counted)[:3]:
        shutil.copy(path, tmp_path)
    broken = tmp_path / "rollout_000001.npz"
    broken.write_bytes(broken.read_bytes()[:300])
    for cls in (RolloutDataset, SequenceDataset):
        with pytest.raises(ValueError, match=r"rollout_000001\.npz is not a readable rollout"):
            cls(tmp_path)


# ----------------------------------------------------------------------------------- the memory


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each file was decoded."""
    count: Counter = Counter()

    def read(path: Path) -> Rollout:
        count[path.name] += 1
        return read_rollout(path)

    monkeypatch.setattr(wmlib.datasets, "read_rollout", read)
    return count


@pytest.mark.parametrize("buffer_size", [1, 3])
def test_memory_is_bounded_by_the_buffer_fault_20(
    counted: Path, buffer_size: int, reads: Counter
) -> None:
    """Fault 20: the "circular buffer" never evicted."""
    dataset = ObservationDataset(counted, buffer_size=buffer_size, num_test_files=0)
    for index in np.random.default_rng(0).permutation(len(dataset)):
        _ = dataset[int(index)]
        assert len(dataset.buffer) <= buffer_size
    assert reads.total() > 2 * len(dataset.files)  # without the sampler's order, at a price


def test_each_file_is_decoded_once_per_epoch_fault_20(counted: Path, reads: Counter) -> None:
    """Fault 20: indexing the file for every frame decompressed the whole episode for each."""
    dataset = ObservationDataset(counted, buffer_size=3, num_test_files=0)
    for index in BufferedSampler(dataset):
        _ = dataset[index]
    assert set(reads.values()) == {1}
    assert len(reads) == 10


def test_the_least_recently_used_rollout_goes_first(counted: Path, reads: Counter) -> None:
    dataset = RolloutDataset(counted, buffer_size=2)
    for file in (0, 1, 0, 2, 0):
        dataset.rollout(file)
    assert list(dataset.buffer) == [2, 0]
    assert reads.total() == 3


def test_a_buffer_of_nothing_is_refused(counted: Path) -> None:
    with pytest.raises(ValueError, match="buffer_size must be at least 1, found 0"):
        RolloutDataset(counted, buffer_size=0)


# ------------------------------------------------------------------------------------ sequences


SEQ = 5


@pytest.fixture(scope="module")
def sequences(counted: Path) -> SequenceDataset:
    return SequenceDataset(counted, seq_len=SEQ, num_test_files=0)


def test_five_tensors_of_equal_length(sequences: SequenceDataset) -> None:
    obs, action, reward, terminal, next_obs = sequences[0]
    assert obs.shape == next_obs.shape == (SEQ, 3, 64, 64)
    assert action.shape == (SEQ, 2)
    assert reward.shape == terminal.shape == (SEQ,)
    assert {part.dtype for part in sequences[0]} == {torch.float32}


def test_windows_start_at_every_step(sequences: SequenceDataset, episodes: list[Rollout]) -> None:
    expected = [(e.seed % 251, t) for e in episodes for t in range(len(e) - SEQ + 1)]
    found = [(levels(obs)[0][1], levels(obs)[0][0]) for obs, *_ in sequences]
    assert found == expected


def test_windows_are_in_time_fault_1(sequences: SequenceDataset) -> None:
    """Fault 1: obs[t] was paired with action[t + 1] and reward[t + 1]."""
    for obs, action, reward, _, next_obs in sequences:
        before, after = levels(obs), levels(next_obs)
        for t in range(SEQ):
            count = before[t][0]
            assert reward[t] == count
            assert after[t][0] == count + 1
            assert after[t][2] == action_level(action[t].numpy())
        assert torch.equal(obs[1:], next_obs[:-1])


def test_no_window_crosses_an_episode_fault_2(
    sequences: SequenceDataset, episodes: list[Rollout]
) -> None:
    """Fault 2: sequences were cut straight through the ends of episodes."""
    for obs, _, _, terminal, next_obs in sequences:
        seen = np.array(levels(torch.cat([obs, next_obs[-1:]])))
        assert (seen[:, 1] == seen[0, 1]).all()  # one seed
        assert (np.diff(seen[:, 0]) == 1).all()  # one step at a time
        assert not terminal[:-1].any()
    ends = sum(bool(terminal[-1]) for _, _, _, terminal, _ in sequences)
    assert ends == len(episodes)  # each end is seen, once, as a window's last step


def test_episodes_that_are_too_short_are_left_out(counted: Path, episodes: list[Rollout]) -> None:
    dataset = SequenceDataset(counted, seq_len=12, num_test_files=0)
    assert len(dataset) == sum(max(0, len(episode) - 11) for episode in episodes)
    assert len({levels(obs)[0][1] for obs, *_ in dataset}) < len(episodes)


def test_windows_longer_than_any_episode_are_refused(counted: Path) -> None:
    with pytest.raises(ValueError, match=r"no rollout below .* has 99 transitions; lower seq_len"):
        SequenceDataset(counted, seq_len=99)


# --------------------------------------------------------------------------- sequences of latents


def counting_latents(episodes: list[Rollout], logsigma: float = -20.0) -> dict[str, np.ndarray]:
    """Latents that are the frames' own levels: mu = (count, seed, level)."""
    mu = [episode.observations[:, 0, 0].astype(np.float32) for episode in episodes]
    final = np.stack([episode.final_observation[0, 0] for episode in episodes]).astype(np.float32)
    latents, lengths = np.concatenate(mu), [len(episode) for episode in episodes]
    return {
        "latents": latents,
        "logsigmas": np.full_like(latents, logsigma),
        "actions": np.concatenate([episode.actions for episode in episodes]),
        "rewards": np.concatenate([episode.rewards for episode in episodes]),
        "terminals": np.concatenate([episode.terminals for episode in episodes]),
        "episode_starts": np.cumsum([0, *lengths[:-1]]),
        "final_latents": final,
        "final_logsigmas": np.full_like(final, logsigma),
    }


def test_windows_of_latents_are_the_windows_of_frames(
    sequences: SequenceDataset, episodes: list[Rollout]
) -> None:
    """One law of time: both datasets cut the same episodes into the same windows."""
    latents = LatentSequenceDataset(counting_latents(episodes), SEQ)
    assert len(latents) == len(sequences)
    for (obs, *middle, next_obs), (z, *same, z_next) in zip(sequences, latents, strict=True):
        assert z.round().int().tolist() == levels(obs)
        assert z_next.round().int().tolist() == levels(next_obs)
        for one, other in zip(middle, same, strict=True):
            assert torch.equal(one, other)


def test_no_window_of_latents_crosses_an_episode_fault_2(episodes: list[Rollout]) -> None:
    """Fault 2: the latents of all rollouts lay in one flat array, and so did the windows."""
    for z, action, reward, terminal, z_next in LatentSequenceDataset(counting_latents(episodes), 8):
        seen = torch.cat([z, z_next[-1:]]).round()
        assert seen[:, 1].unique().numel() == 1
        assert seen[:, 0].diff().eq(1).all()
        assert not terminal[:-1].any()
        assert reward.tolist() == seen[:-1, 0].tolist()
        assert seen[1:, 2].tolist() == [action_level(a) for a in action.numpy()]


def test_z_is_drawn_afresh_at_every_reading_fault_16(episodes: list[Rollout]) -> None:
    """Fault 16: one stored *sample* of z let M memorise the noise. Five standard errors wide."""
    latents = counting_latents(episodes)
    latents["logsigmas"][:] = np.log([0.1, 0.5, 2.0])
    latents["final_logsigmas"][:] = np.log([0.1, 0.5, 2.0])
    dataset, n = LatentSequenceDataset(latents, SEQ), 2000
    z, *_, z_next = dataset.batch(torch.full((n,), 3))
    assert torch.equal(z[:, 1:], z_next[:, :-1])  # one z per frame within a window
    sigma = torch.tensor([0.1, 0.5, 2.0])
    mu = torch.from_numpy(latents["latents"][3 : 3 + SEQ])
    assert ((z.mean(0) - mu).abs() < 5 * sigma / n**0.5).all()
    assert ((z.std(0) / sigma - 1).abs() < 5 / (2 * n) ** 0.5).all()
    assert not torch.equal(dataset[3][0], dataset[3][0])


def test_a_generator_makes_batches_that_repeat(episodes: list[Rollout]) -> None:
    dataset = LatentSequenceDataset(counting_latents(episodes, 0.0), SEQ)
    index = torch.tensor([4, 0, 4])
    one, two = (dataset.batch(index, torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[0][0], one[0][2])  # each row has its own noise


def test_some_of_the_episodes(episodes: list[Rollout]) -> None:
    dataset = LatentSequenceDataset(counting_latents(episodes), SEQ, range(7, 10))
    seen = {int(z[0, 1].round()) for z, *_ in dataset}
    assert seen == {episode.seed % 251 for episode in episodes[7:]}


def test_latent_indices_count_from_the_end_too_and_end(episodes: list[Rollout]) -> None:
    dataset = LatentSequenceDataset(counting_latents(episodes), SEQ)
    assert torch.equal(dataset[-1][1], dataset[len(dataset) - 1][1])
    with pytest.raises(IndexError, match=f"index {len(dataset)} of {len(dataset)} windows"):
        dataset[len(dataset)]


def test_windows_of_latents_longer_than_any_episode_are_refused(episodes: list[Rollout]) -> None:
    longest = max(map(len, episodes))
    with pytest.raises(ValueError, match=f"seq_len = 99 transitions, the longest has {longest}"):
        LatentSequenceDataset(counting_latents(episodes), 99)


def test_flat_latents_without_episodes_are_refused(episodes: list[Rollout]) -> None:
    """The reference page's file: nothing in it says where an episode ends."""
    latents = counting_latents(episodes)
    flat = {key: latents[key] for key in ("latents", "actions", "rewards", "terminals")}
    with pytest.raises(ValueError, match=r"the latents lack \['episode_starts', 'final_latents'"):
        LatentSequenceDataset(flat, SEQ)


# ------------------------------------------------------------------------------- worker processes


@pytest.mark.parametrize("cls", [RolloutDataset, ObservationDataset, SequenceDataset])
def test_worker_processes_give_the_same_examples(cls: type, counted: Path) -> None:
    """The reference page's third pitfall, closed: any ``num_workers`` is right."""
    dataset = cls(counted, buffer_size=2, **({"seq_len": SEQ} if cls is SequenceDataset else {}))
    torch.testing.assert_close(collated(dataset, 2), collated(dataset, 0), rtol=0, atol=0)


def test_worker_processes_give_the_same_windows_of_latents(episodes: list[Rollout]) -> None:
    dataset = LatentSequenceDataset(counting_latents(episodes), SEQ)
    torch.testing.assert_close(collated(dataset, 2), collated(dataset, 0), rtol=0, atol=1e-4)


def test_worker_processes_draw_noise_of_their_own(episodes: list[Rollout]) -> None:
    """The same window, read by two processes and in two epochs: four samples."""
    latents = counting_latents(episodes[:1], 0.0)
    dataset = LatentSequenceDataset(latents, len(episodes[0]))
    assert len(dataset) == 1
    loader = DataLoader(dataset, 1, sampler=[0, 0], num_workers=2)
    samples = [z for _ in range(2) for z, *_ in loader]
    assert len({sample.numpy().tobytes() for sample in samples}) == 4


def test_a_shuffled_epoch_in_worker_processes_is_complete(counted: Path) -> None:
    dataset = ObservationDataset(counted, buffer_size=2, num_test_files=0)
    loader = DataLoader(dataset, 7, sampler=BufferedSampler(dataset, seed=1), num_workers=2)
    seen = Counter(tuple(level) for batch in loader for level in levels(batch))
    assert seen == Counter(tuple(levels(frame)) for frame in dataset)


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


# -------------------------------------------------------------------------- the order of an epoch


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
    assert list(Batches(empty, 4)(0)) == []
    assert len(Batches(empty, 4)) == 0


# --------------------------------------------------------------------------------- frames for V


def test_an_epoch_of_frames_is_complete(frames: ObservationDataset) -> None:
    batches = Batches(frames, 16)
    drawn = list(batches(0))
    assert len(batches) == len(drawn) == -(-len(frames) // 16)
    assert {(batch.dtype, batch.shape[1:]) for batch in drawn} == {(torch.uint8, (64, 64, 3))}
    expected = Counter(tuple(levels(frame)) for frame in frames)
    assert Counter(colours_of(drawn)) == expected


def test_epochs_differ_and_repeat(frames: ObservationDataset) -> None:
    """A resumed run sees the batches of the straight one."""
    batches = Batches(frames, 16, 20)
    epochs = [colours_of(list(batches(epoch))) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    assert len(epochs[0]) == 20
    assert len(batches) == 2


def test_transformed_frames_are_floats(counted: Path) -> None:
    dataset = ObservationDataset(counted, lambda frame: frame / 3, num_test_files=0)
    drawn = list(Batches(dataset, 16)(0))
    assert {(batch.dtype, batch.shape[1:]) for batch in drawn} == {(torch.float32, (3, 64, 64))}
    expected = Counter(tuple(colours(dataset[i][None])[0]) for i in range(len(dataset)))
    assert Counter(colours_of(drawn)) == expected


# ------------------------------------------------------------------------------- windows for M


def test_a_transform_may_draw_at_random(counted: Path) -> None:
    """From torch's generator, which is the model's as well: so it must not draw beside it."""
    shade = lambda frame: frame * torch.rand(1)  # noqa: E731
    dataset = ObservationDataset(counted, shade, num_test_files=0)
    epochs = []
    for pause in (0.0, 0.01):
        torch.manual_seed(0)
        drawn = [
            (batch, time.sleep(pause) or torch.randn(1)) for batch in Batches(dataset, 16, 64)(0)
        ]
        epochs.append([torch.cat(part) for part in zip(*drawn, strict=True)])
    assert all(torch.equal(a, b) for a, b in zip(*epochs, strict=True))


def test_what_goes_wrong_while_reading_ahead_is_said(counted: Path, tmp_path: Path) -> None:
    for path in rollout_files(counted)[:3]:
        shutil.copy(path, tmp_path)
    batches = Batches(ObservationDataset(tmp_path, buffer_size=1, num_test_files=0), 4)
    (tmp_path / "rollout_000001.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"rollout_000001\.npz is not a readable rollout"):
        list(batches(0))


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
    z, action, reward, terminal, z_next = next(Batches(latents, 3)(0))
    assert z.shape == action.shape == z_next.shape == (3, SEQ, 2)
    assert reward.shape == terminal.shape == (3, SEQ)


def test_an_epoch_of_latents_covers_the_data_once(latents: LatentSequenceDataset) -> None:
    batches = Batches(latents, 4)
    drawn = list(batches(0))
    assert len(starts(drawn)) == -(-len(latents) // SEQ)
    assert len(drawn) == len(batches)
    assert len(set(starts(drawn))) == len(starts(drawn))


@pytest.mark.parametrize(("size", "drawn"), [(10, 10), (10_000, 26 + 17)])
def test_latent_batches_draw_as_many_as_asked(
    latents: LatentSequenceDataset, size: int, drawn: int
) -> None:
    batches = Batches(latents, 4, size)
    found = starts(list(batches(0)))
    assert len(found) == len(set(found)) == drawn
    assert len(batches) == -(-drawn // 4)


def same(one: list, other: list) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for x, y in pairs for a, b in zip(x, y, strict=True))


def test_order_and_noise_are_the_epochs_own_fault_16(latents: LatentSequenceDataset) -> None:
    """Fault 16: one stored sample of z. Each epoch draws z again, and a resumed one as before."""
    batches = Batches(latents, 4, seed=7)
    first, second, again = list(batches(0)), list(batches(1)), list(batches(0))
    assert same(first, again)
    assert starts(first) != starts(second)
    noise = [
        {
            int(s): float(z[0, 0] - 1000 * s)
            for part in drawn
            for z, s in zip(part[0], part[2][:, 0], strict=True)
        }
        for drawn in (first, list(Batches(latents, 4, 45, seed=7)(1)))
    ]
    assert all(noise[0][s] != noise[1][s] for s in noise[0])
    assert not same(first, list(Batches(latents, 4, seed=8)(0)))


def test_held_out_latents_are_the_same_in_every_epoch(latents: LatentSequenceDataset) -> None:
    batches = Batches(latents, 4, seed=7, shuffle=False)
    first, second = list(batches(0)), list(batches(1))
    assert same(first, second)
    assert starts(first) == sorted(starts(first))
    assert len(first) == len(batches)


def test_nothing_held_out_gives_no_batches() -> None:
    batches = Batches(None, 4, shuffle=False)
    assert len(batches) == 0
    assert list(batches(0)) == []


@pytest.fixture
def windows(counted: Path) -> SequenceDataset:
    return SequenceDataset(counted, seq_len=SEQ, num_test_files=0)


def test_an_epoch_of_windows_covers_the_data_once(windows: SequenceDataset) -> None:
    batches = Batches(windows, 4)
    drawn = list(batches(0))
    assert len(drawn) == len(batches)
    assert sum(len(batch[0]) for batch in drawn) == -(-len(windows) // SEQ)
    assert drawn[0][0].shape == drawn[0][4].shape == (4, SEQ, 3, 64, 64)
    assert same(drawn, list(batches(0)))
    assert not same(drawn, list(batches(1)))


@pytest.mark.parametrize("size", [6, 10_000])
def test_windows_are_no_more_than_there_are(windows: SequenceDataset, size: int) -> None:
    batches = Batches(windows, 4, size)
    drawn = sum(len(batch[0]) for batch in batches(0))
    assert drawn == min(size, len(windows))
    assert len(batches) == -(-drawn // 4)


def test_held_out_windows_are_the_same_in_every_epoch(windows: SequenceDataset) -> None:
    batches = Batches(windows, 4, shuffle=False)
    first = list(batches(0))
    assert same(first, list(batches(1)))
    assert len(first) == len(batches)


def test_no_windows_give_no_batches(counted: Path) -> None:
    empty = SequenceDataset(counted, train=False, seq_len=SEQ, num_test_files=0)
    for shuffle in (True, False):
        assert list(Batches(empty, 4, shuffle=shuffle)(0)) == []
