"""What one episode on disk looks like."""

import dataclasses
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wmlib.checkpoints import atomic_path, reading
from wmlib.pixels import resize

LATENTS_FOLDER = "latents"
UNREADABLE = "is not a readable rollout"


@dataclass
class Rollout:
    """One episode, or the first T steps of it.

    The law of time: ``observations[t] --actions[t]--> observations[t + 1]``, which pays
    ``rewards[t]`` and ends the episode if ``terminals[t]`` is 1. The frame that the last action led
    to is ``final_observation``.

    Attributes:
        observations: (T, 64, 64, 3) uint8.
        actions: (T, A) float32, as executed; one-hot for discrete actions.
        rewards: (T,) float32.
        terminals: (T,) float32, 1 only where the environment itself ended the episode.
        final_observation: (64, 64, 3) uint8, or None in other people's files.
        truncated: Whether a time limit cut the episode.
        seed: The episode's own seed, -1 if unknown.
        env_id: The environment.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    final_observation: np.ndarray | None = None
    truncated: bool = False
    seed: int = -1
    env_id: str = ""

    def __len__(self) -> int:
        """The number T of transitions."""
        return len(self.actions)

    @property
    def next_observations(self) -> np.ndarray:
        """Frames (T, 64, 64, 3) that the actions led to; T - 1 where the final one is unknown."""
        if self.final_observation is None:
            return self.observations[1:]
        return np.concatenate([self.observations[1:], self.final_observation[None]])


def save_rollout(path: str | os.PathLike[str], rollout: Rollout) -> None:
    """Write an episode as ``.npz``, whole or not at all; the same episode gives the same bytes."""
    parts = {field.name: getattr(rollout, field.name) for field in dataclasses.fields(rollout)}
    arrays = {name: np.asarray(part) for name, part in parts.items() if part is not None}
    # numpy's own savez_compressed has no level: level 1 takes a third of the time.
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, for equal bytes
            archive.writestr(info, file.getbuffer(), zipfile.ZIP_DEFLATED, compresslevel=1)


def read_rollout(path: str | os.PathLike[str], alignment: str = "before") -> Rollout:
    """Read an episode, ours or somebody else's, into the law of time.

    Args:
        path: The ``.npz`` file.
        alignment: ``"before"``: ``observations[t]`` is what was seen before ``actions[t]`` (ours,
            TorchWM's). ``"after"``: it is what ``actions[t]`` led to (ctallec's files).

    Returns:
        The episode, its frames resized to 64×64. ValueError if the file cannot be read or its
        arrays do not fit together.
    """
    if alignment not in ("before", "after"):
        raise ValueError(f"alignment must be 'before' or 'after', found {alignment!r}")
    cure = "it wants the keys observations, actions, rewards, terminals: delete or replace it"
    with reading(path, UNREADABLE, cure), np.load(path, allow_pickle=False) as archive:
        known = [field.name for field in dataclasses.fields(Rollout)]  # nothing else is unpacked
        data = {key: archive[key] for key in known if key in archive.files}
        frames, final = data["observations"], data.get("final_observation")
        numbers = [data[key].astype(np.float32) for key in ("actions", "rewards", "terminals")]
        if not all(np.isfinite(part).all() for part in numbers):
            raise ValueError("an action, reward or terminal is no number")
        actions, rewards, terminals = numbers
        truncated, seed = bool(data.get("truncated", False)), int(data.get("seed", -1))
        env_id = str(data.get("env_id", ""))
    if final is not None and (final.shape, final.dtype) != (frames.shape[1:], frames.dtype):
        raise ValueError(f"{path}: final_observation is {final.shape} {final.dtype}: replace it")
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"{path}: observations must be (T, H, W, 3) uint8, found {frames.shape} {frames.dtype}"
        )
    parts = (frames, actions, rewards, terminals)
    count, told, paid, ended = (part.shape[0] if part.ndim else 0 for part in parts)
    after = alignment == "after"
    fits = told >= count if after else told == count  # ctallec drew more than were played
    if not fits or not count == paid == ended or count <= after:
        raise ValueError(
            f"{path}: {count} frames, {told} actions, {paid} rewards and {ended} terminals make no "
            f"episode with alignment={alignment!r}; ours and TorchWM's files want 'before', "
            "ctallec's 'after'"
        )
    frames, final = resize(frames), None if final is None else resize(final)
    if after:
        frames, final = frames[:-1], frames[-1]
        actions, rewards, terminals = actions[1 : 1 + len(frames)], rewards[1:], terminals[1:]
    actions = actions.reshape(len(frames), -1)
    return Rollout(frames, actions, rewards, terminals, final, truncated, seed, env_id)


def rollout_files(root: str | os.PathLike[str]) -> list[Path]:
    """All rollouts below ``root``, sorted, without cached latents; FileNotFoundError if none."""
    root = Path(root)
    files = sorted(
        path
        for path in root.rglob("*.npz")
        if LATENTS_FOLDER not in path.relative_to(root).parts and not path.name.startswith(".")
    )
    if not files:
        raise FileNotFoundError(f"no rollouts (.npz) below {root}: collect some first")
    return files


def rollout_length(path: str | os.PathLike[str]) -> int:
    """The number of frames in a file, without reading them."""
    with reading(path, UNREADABLE), np.load(path, allow_pickle=False) as archive:
        return len(archive["rewards"])


def rollout_origin(path: str | os.PathLike[str]) -> tuple[str, int]:
    """Environment, its module left out, and seed; ``"", -1`` where the file does not say."""
    with reading(path, UNREADABLE), np.load(path, allow_pickle=False) as archive:
        name = str(archive["env_id"]) if "env_id" in archive.files else ""
        seed = int(archive["seed"]) if "seed" in archive.files else -1
        return name.partition(" (")[0].rpartition(":")[2], seed


def origin(data_dir: str) -> dict[str, Any]:
    """The environment of the rollouts there, how many they are, and their bytes."""
    files = rollout_files(data_dir)
    size = sum(file.stat().st_size for file in files)
    return {"env_name": rollout_origin(files[0])[0], "rollouts": [len(files), size]}
