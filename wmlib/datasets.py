"""Episodes cut into examples."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from wmlib.pixels import frames_to_tensor
from wmlib.rollouts import Rollout, read_rollout, rollout_files, rollout_length

__all__ = ["LatentSequenceDataset", "ObservationDataset", "RolloutDataset", "SequenceDataset"]
__all__ += ["split_point"]

Transform = Callable[[Tensor], Tensor]
Windows = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
LATENT_KEYS = {"latents", "logsigmas", "actions", "rewards", "terminals"}
LATENT_KEYS |= {"episode_starts", "final_latents", "final_logsigmas"}


def split_point(count: int, num_test_files: int) -> int:
    """How many of ``count`` files, in sorted order, are for training; the rest is held out.

    The last ``num_test_files`` are, or a tenth (at least one) where there are too few files.
    ``num_test_files=0`` holds none out. A single file is for training.
    """
    if num_test_files < 0:
        raise ValueError(f"num_test_files must not be negative, found {num_test_files}")
    held_out = num_test_files
    if num_test_files >= count:
        held_out = max(1, count // 10) if count > 1 else 0
        if num_test_files:
            print(f"{count} files are too few to hold {num_test_files} out: held out {held_out}")
    return count - held_out


class RolloutDataset(Dataset[Any]):
    """Single frames of all rollouts below a folder.

    Items are ``dict(observation, action, reward, terminal)``.

    Map-style, and right with any ``num_workers``: each worker keeps its own ``buffer_size`` latest
    rollouts. Reading in the order of a ``BufferedSampler`` decodes each file once per epoch.

    Args:
        root: Folder of the rollouts.
        transform: Any callable on a frame (3, 64, 64) in [0, 1].
        train: The training files, or those held out.
        buffer_size: Rollouts kept in memory (12 MB for each 1,000 frames).
        num_test_files: How many files are held out, the last in sorted order.
        alignment: See ``read_rollout``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform | None = None,
        train: bool = True,
        buffer_size: int = 64,
        num_test_files: int = 600,
        alignment: str = "before",
    ) -> None:
        if buffer_size < 1:
            raise ValueError(f"buffer_size must be at least 1, found {buffer_size}")
        files = rollout_files(root)
        cut = split_point(len(files), num_test_files)
        self.files = files[:cut] if train else files[cut:]  # never [:-n]: -0 would take none
        self.transform, self.buffer_size, self.alignment = transform, buffer_size, alignment
        self.buffer: OrderedDict[int, Rollout] = OrderedDict()
        # ends[i] is where file i's examples end in the flat index.
        self.ends = np.cumsum([self._examples(path) for path in self.files], dtype=np.int64)

    def _examples(self, path: Path) -> int:
        return rollout_length(path) - (self.alignment == "after")

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
            self.buffer[file] = read_rollout(self.files[file], self.alignment)
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


class ObservationDataset(RolloutDataset):
    """Bare frames (3, 64, 64) in [0, 1]: what V trains on."""

    def __getitem__(self, index: int) -> Tensor:
        return self._frames(self.raw(index))

    def raw(self, index: int) -> np.ndarray:
        """The frame as stored, (64, 64, 3) uint8."""
        file, t = self.locate(index)
        return self.rollout(file).observations[t]  # type: ignore[no-any-return]


class SequenceDataset(RolloutDataset):
    """Windows of frames, none across the end of an episode.

    Five tensors of equal length: observations (T, 3, 64, 64), actions (T, A), rewards (T,),
    terminals (T,), next observations (T, 3, 64, 64). Windows start at every step.

    Args:
        root, transform, train, buffer_size, num_test_files, alignment: See ``RolloutDataset``.
        seq_len: Transitions T in a window.

    Raises:
        ValueError: If no episode is long enough.
    """

    def __init__(
        self, root: str | os.PathLike[str], *args: Any, seq_len: int = 32, **kwargs: Any
    ) -> None:
        self.seq_len = seq_len
        super().__init__(root, *args, **kwargs)
        if self.files and not len(self):
            raise ValueError(f"no rollout below {root} has {seq_len} transitions; lower seq_len")

    def _examples(self, path: Path) -> int:
        transitions = rollout_length(path) - 1  # the last one, if its frame is there, is a bonus
        return max(0, transitions - self.seq_len + 1 + self._has_final(path))

    def _has_final(self, path: Path) -> int:
        with np.load(path, allow_pickle=False) as archive:
            return int(self.alignment == "before" and "final_observation" in archive.files)

    def __getitem__(self, index: int) -> Windows:
        file, start = self.locate(index)
        rollout, window = self.rollout(file), slice(start, start + self.seq_len)
        frames = rollout.observations[start : window.stop + 1]
        if window.stop == len(rollout.observations):  # the final frame is kept apart
            frames = np.concatenate([frames, rollout.next_observations[-1:]])
        x = self._frames(frames)  # (T + 1, 3, 64, 64)
        return (
            x[:-1],
            torch.from_numpy(rollout.actions[window]),
            torch.from_numpy(rollout.rewards[window]),
            torch.from_numpy(rollout.terminals[window]),
            x[1:],
        )


class LatentSequenceDataset(Dataset[Windows]):
    """Windows of latents held in memory, z drawn afresh from q(z | x) at every reading.

    Items are five tensors: z (T, L), actions (T, A), rewards (T,), terminals (T,), next z (T, L).

    Args:
        latents: The arrays of one ``latents_<L>.npz``: ``latents`` (N, L), which are mu,
            ``logsigmas`` (N, L), ``actions`` (N, A), ``rewards`` and ``terminals`` (N,),
            ``episode_starts`` (E,), ``final_latents`` and ``final_logsigmas`` (E, L).
        seq_len: Transitions T in a window; windows start at every step of an episode.
        episodes: Which episodes; all by default.

    Raises:
        ValueError: If no episode is long enough, or an array is missing.
    """

    def __init__(
        self,
        latents: dict[str, np.ndarray],
        seq_len: int = 32,
        episodes: range | None = None,
    ) -> None:
        missing = LATENT_KEYS - set(latents)
        if missing:
            raise ValueError(f"the latents lack {sorted(missing)}: precompute_latents makes them")
        starts = latents["episode_starts"]
        count, total = len(starts), len(latents["latents"])
        bounds = np.append(starts, total)
        self.seq_len = seq_len
        # With the final frame behind each episode's last one, next z is always one row further.
        at = bounds[1:]
        self.mu = _tensor(np.insert(latents["latents"], at, latents["final_latents"], 0))
        self.logsigma = _tensor(np.insert(latents["logsigmas"], at, latents["final_logsigmas"], 0))
        self.actions, self.rewards, self.terminals = (
            _tensor(np.insert(latents[key], at, 0, 0))
            for key in ("actions", "rewards", "terminals")
        )
        chosen = range(count) if episodes is None else episodes
        windows = [
            np.arange(bounds[e] + e, bounds[e + 1] + e - seq_len + 1)
            for e in chosen
            if bounds[e + 1] - bounds[e] >= seq_len
        ]
        if not windows:
            longest = max((int(bounds[e + 1] - bounds[e]) for e in chosen), default=0)
            raise ValueError(
                f"no episode has seq_len = {seq_len} transitions, the longest has {longest}; "
                "lower seq_len"
            )
        self.starts = torch.from_numpy(np.concatenate(windows))

    def __len__(self) -> int:
        return len(self.starts)

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Windows:
        """Windows number ``index`` (B,), each tensor (B, T, ·)."""
        steps = self.starts[index, None] + torch.arange(self.seq_len + 1)  # (B, T + 1)
        mu, logsigma = self.mu[steps], self.logsigma[steps]
        z = mu + logsigma.exp() * torch.empty_like(mu).normal_(generator=generator)
        here = steps[:, :-1]
        return z[:, :-1], self.actions[here], self.rewards[here], self.terminals[here], z[:, 1:]

    def __getitem__(self, index: int) -> Windows:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} windows")
        z, action, reward, terminal, z_next = self.batch(torch.tensor([index]))
        return z[0], action[0], reward[0], terminal[0], z_next[0]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
