"""Episodes cut into examples, and examples gathered into batches."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, default_collate

from wmlib.devices import faster
from wmlib.pixels import frames_to_tensor
from wmlib.rollouts import Rollout, read_rollout, rollout_files, rollout_length
from wmlib.vae import sample_latent

Transform = Callable[[Tensor], Tensor]
Windows = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
LATENT_KEYS = {"latents", "logsigmas", "actions", "rewards", "terminals"}
LATENT_KEYS |= {"episode_starts", "final_latents", "final_logsigmas"}


def split_point(count: int, num_test_files: int | None = None) -> int:
    """How many of ``count`` files, in sorted order, are for training; the rest is held out.

    The last ``num_test_files`` are (0: none); by default, or where there are too few, a tenth
    (at least one). A single file is for training.

    Raises ValueError if ``num_test_files`` is negative.
    """
    if num_test_files is not None and num_test_files < 0:
        raise ValueError(f"num_test_files must not be negative, found {num_test_files}")
    if num_test_files is not None and num_test_files < max(count, 1):
        return count - num_test_files
    held_out = max(1, count // 10) if count > 1 else 0
    if num_test_files is not None:
        print(f"{count} files are too few to hold {num_test_files} out: held out {held_out}")
    return count - held_out


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of everything random in one epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class RolloutDataset(Dataset[Any]):
    """Single frames of all rollouts below a folder.

    Items are ``dict(observation, action, reward, terminal)``. Right with any ``num_workers``: each
    keeps its own ``buffer_size`` latest rollouts (12 MB for each 1,000 frames). Reading in the
    order of a ``BufferedSampler`` decodes each file once per epoch.

    Args:
        root, transform: Folder of the rollouts; any callable on a frame (3, 64, 64) in [0, 1].
        train, num_test_files: The training files, or those held out; see ``split_point``.
    """

    stride = 1  # examples that do not overlap are as far apart

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform | None = None,
        train: bool = True,
        buffer_size: int = 64,
        num_test_files: int | None = 600,
    ) -> None:
        if buffer_size < 1:
            raise ValueError(f"buffer_size must be at least 1, found {buffer_size}")
        files = rollout_files(root)
        cut = split_point(len(files), num_test_files)
        self.files = files[:cut] if train else files[cut:]  # never [:-n]: -0 would take none
        self.transform, self.buffer_size = transform, buffer_size
        self.buffer: OrderedDict[int, Rollout] = OrderedDict()
        # ends[i] is where file i's examples end in the flat index.
        self.ends = np.cumsum([self._examples(path) for path in self.files], dtype=np.int64)

    def _examples(self, path: Path) -> int:
        return rollout_length(path)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def locate(self, index: int) -> tuple[int, int]:
        """The file that holds an example, and its number there."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} examples")
        index %= len(self)
        file = int(np.searchsorted(self.ends, index, side="right"))
        return file, index - (int(self.ends[file - 1]) if file else 0)

    def rollout(self, file: int) -> Rollout:
        """Rollout number ``file``, from the buffer if it is there."""
        if file not in self.buffer:
            self.buffer[file] = read_rollout(self.files[file])
            if len(self.buffer) > self.buffer_size:
                self.buffer.popitem(last=False)
        self.buffer.move_to_end(file)
        return self.buffer[file]

    def _frames(self, frames: np.ndarray) -> Tensor:
        x = frames_to_tensor(frames)
        if self.transform is None:
            return x
        return torch.stack([self.transform(f) for f in x]) if x.ndim == 4 else self.transform(x)

    def __getitem__(self, index: int) -> Any:
        file, t = self.locate(index)
        rollout = self.rollout(file)
        return {
            "observation": self._frames(rollout.observations[t]),
            "action": torch.from_numpy(rollout.actions[t]),
            "reward": torch.tensor(rollout.rewards[t]),
            "terminal": torch.tensor(rollout.terminals[t]),
        }

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Any:
        """Examples number ``index`` (B,), each of their tensors stacked to (B, …)."""
        return default_collate([self[i] for i in index.tolist()])


class ObservationDataset(RolloutDataset):
    """Bare frames (3, 64, 64) in [0, 1]: what V trains on."""

    def __getitem__(self, index: int) -> Tensor:
        return self._frames(self._raw(index))

    def _raw(self, index: int) -> np.ndarray:
        file, t = self.locate(index)
        return self.rollout(file).observations[t]  # type: ignore[no-any-return]

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Frames number ``index`` (B,): uint8 (B, 64, 64, 3), or, transformed, (B, 3, 64, 64)."""
        if self.transform is not None:
            return torch.stack([self[i] for i in index.tolist()])
        return torch.from_numpy(np.stack([self._raw(i) for i in index.tolist()]))


class SequenceDataset(RolloutDataset):
    """Windows of ``seq_len`` transitions T from every step, none across an episode's end.

    Five tensors of equal length: observations (T, 3, 64, 64), actions (T, A), rewards (T,),
    terminals (T,), next observations (T, 3, 64, 64). For the arguments, see ``RolloutDataset``.

    Raises ValueError if no episode is long enough.
    """

    def __init__(
        self, root: str | os.PathLike[str], *args: Any, seq_len: int = 32, **kwargs: Any
    ) -> None:
        self.seq_len = self.stride = seq_len
        super().__init__(root, *args, **kwargs)
        if self.files and not len(self):
            raise ValueError(f"no rollout below {root} has {seq_len} transitions; lower seq_len")

    def _examples(self, path: Path) -> int:
        count = rollout_length(path) - self.seq_len
        with np.load(path, allow_pickle=False) as archive:  # its last frame is a bonus
            return max(0, count + ("final_observation" in archive.files))

    def __getitem__(self, index: int) -> Windows:
        file, start = self.locate(index)
        rollout, window = self.rollout(file), slice(start, start + self.seq_len)
        frames = rollout.observations[start : window.stop + 1]
        if window.stop == len(rollout.observations):  # the final frame is kept apart
            frames = np.concatenate([frames, rollout.next_observations[-1:]])
        x = self._frames(frames)  # (T + 1, 3, 64, 64)
        told = (rollout.actions, rollout.rewards, rollout.terminals)
        actions, rewards, terminals = (torch.from_numpy(part[window]) for part in told)
        return x[:-1], actions, rewards, terminals, x[1:]


class LatentSequenceDataset(Dataset[Windows]):
    """Windows of latents held in memory, z drawn afresh from q(z | x) at every reading.

    Items are five tensors: z (T, L), actions (T, A), rewards (T,), terminals (T,), next z (T, L).

    Args:
        latents: The arrays of one ``latents_<L>.npz``; see ``precompute_latents``.
        seq_len, episodes: Transitions T in a window, from every step of these episodes (None: all).

    Raises ValueError if no episode is long enough, or an array is missing.
    """

    def __init__(
        self, latents: dict[str, np.ndarray], seq_len: int = 32, episodes: range | None = None
    ) -> None:
        if missing := LATENT_KEYS - set(latents):
            raise ValueError(f"the latents lack {sorted(missing)}: precompute_latents makes them")
        bounds = np.append(latents["episode_starts"], len(latents["latents"]))
        lengths = np.diff(bounds)
        self.seq_len = self.stride = seq_len

        # With the final frame behind each episode's last one, next z is always one row further.
        def rows(key: str, final: Any = 0) -> Tensor:
            array = np.insert(latents[key], bounds[1:], final, 0)
            return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

        self.mu = rows("latents", latents["final_latents"])
        self.logsigma = rows("logsigmas", latents["final_logsigmas"])
        self.actions, self.rewards, self.terminals = map(rows, ("actions", "rewards", "terminals"))
        chosen = range(len(lengths)) if episodes is None else episodes
        longest = max((int(lengths[e]) for e in chosen), default=0)
        if longest < seq_len:
            raise ValueError(
                f"no episode has seq_len = {seq_len} transitions, the longest has {longest}; "
                "lower seq_len"
            )
        first = bounds[:-1] + np.arange(len(lengths))  # a row for each final frame before it
        windows = [first[e] + np.arange(lengths[e] - seq_len + 1) for e in chosen]
        self.starts = torch.from_numpy(np.concatenate(windows))

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Windows:
        """Windows number ``index`` (B,), each tensor (B, T, ·)."""
        steps = self.starts[index, None] + torch.arange(self.seq_len + 1)  # (B, T + 1)
        mu, logsigma = self.mu[steps], self.logsigma[steps]
        z = sample_latent(mu, logsigma, torch.empty_like(mu).normal_(generator=generator))
        here = steps[:, :-1]
        return z[:, :-1], self.actions[here], self.rewards[here], self.terminals[here], z[:, 1:]

    def __getitem__(self, index: int) -> Windows:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} windows")
        return tuple(part[0] for part in self.batch(torch.tensor([index])))  # type: ignore[return-value]


class BufferedSampler(Sampler[int]):
    """Shuffles the files, then the examples of ``buffer_size`` files at a time.

    It draws ``size`` examples (0: all), from as few files as hold them.
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


class Batches:
    """Examples in batches, drawn afresh by ``seed`` each epoch; no dataset: an empty epoch.

    Args:
        dataset, batch_size: Gives ``batch(index, generator)``; examples B in a batch.
        size: Examples per epoch; 0 is as many as cover the data once.
        shuffle: Draw examples at random; otherwise side by side, with the same noise each time.
    """

    def __init__(
        self,
        dataset: ObservationDataset | SequenceDataset | LatentSequenceDataset | None,
        batch_size: int,
        size: int = 0,
        seed: int = 0,
        shuffle: bool = True,
    ) -> None:
        self.dataset, self.batch_size, self.seed, self.shuffle = dataset, batch_size, seed, shuffle
        total = len(dataset) if dataset is not None else 0
        once = -(-total // dataset.stride) if dataset is not None else 0
        self.size = min(size or once, total) if shuffle else once

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __call__(self, epoch: int) -> Iterator[Any]:
        """The batches of one epoch; the same ones for the same number."""
        data = self.dataset
        if not self.size or data is None:
            return
        seed = epoch_seed(self.seed, epoch if self.shuffle else 0)
        generator = torch.Generator().manual_seed(seed)
        if not self.shuffle:
            order = torch.arange(0, len(data), data.stride)
        elif isinstance(data, LatentSequenceDataset):
            order = torch.randperm(len(data), generator=generator)[: self.size]
        else:
            order = torch.tensor(list(BufferedSampler(data, seed, self.size)))
        batches = (data.batch(i, generator) for i in order.split(self.batch_size))
        # A transform may draw at random, as the model does: from one generator, so in turn.
        in_turn = isinstance(data, LatentSequenceDataset) or data.transform is not None
        ahead = None if in_turn else faster("ahead")
        yield from batches if ahead is None else ahead.read_ahead(batches)
