"""Every frame encoded once."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from wmlib.checkpoints import atomic_path, check_fingerprint, fingerprint, load_checkpoint, reading
from wmlib.config import WMMDNRNNConfig, WMVAEConfig
from wmlib.datasets import LATENT_KEYS, LatentSequenceDataset, split_point
from wmlib.devices import autocast, choose_device
from wmlib.pixels import frames_to_tensor
from wmlib.rollouts import LATENTS_FOLDER, read_rollout, rollout_files
from wmlib.vae import ConvVAE, vae_from_state

CHUNK = 200  # frames encoded at once


def load_vae(config: WMVAEConfig) -> ConvVAE:
    """V as trained in ``<logdir>/vae/best.tar``; ValueError unless L is the configuration's."""
    path = Path(config.logdir) / "vae" / "best.tar"
    vae = vae_from_state(load_checkpoint(path)["state_dict"], str(path))
    if vae.latent_size != config.latent_size:
        raise ValueError(
            f"{path} has latent_size {vae.latent_size}, the configuration says "
            f"{config.latent_size}; make them equal"
        )
    return vae


@torch.no_grad()
def encode(
    vae: nn.Module, frames: np.ndarray, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """``mu, logsigma`` (N, L), float32 on the CPU, of frames (N, 64, 64, 3) uint8.

    Computed where V is, unless another ``device`` is given, to which V was moved.
    """
    device = device or next(vae.parameters()).device
    parts = []
    for chunk in torch.from_numpy(np.ascontiguousarray(frames)).split(CHUNK):
        x = frames_to_tensor(chunk.to(device))
        with autocast(device):
            mu, logsigma = vae.encoder(x)  # type: ignore[operator]
        parts.append(torch.stack([mu, logsigma]).float().cpu())
    mu, logsigma = torch.cat(parts, dim=1)
    return mu, logsigma


def precompute_latents(
    vae_config: WMVAEConfig,
    mdrnn_config: WMMDNRNNConfig,
    vae: nn.Module | None = None,
    display: bool = True,
) -> dict[str, np.ndarray]:
    """Encode all rollouts into ``<data_dir>/latents/latents_<L>.npz``, once for each V.

    Args:
        vae_config: Where V is, unless ``vae`` is given.
        mdrnn_config: Where the rollouts are, and L.

    Returns:
        The file's arrays: ``latents`` (N, L), which are mu, ``logsigmas`` (N, L), ``actions``
        (N, A), ``rewards``, ``terminals`` (N,), ``episode_starts`` (E,), ``final_latents`` and
        ``final_logsigmas`` (E, L): the frame behind each episode's last action. Episodes are in
        the sorted order of their files.

    Raises ValueError if L is not V's, or a file cannot be read.
    """
    vae = vae or load_vae(vae_config)
    device, size = choose_device(mdrnn_config.device), mdrnn_config.latent_size
    vae = vae.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    files = rollout_files(mdrnn_config.data_dir)
    path = Path(mdrnn_config.data_dir, LATENTS_FOLDER, f"latents_{size}.npz")
    # Changes whenever V's weights or the set of rollouts do.
    origin = fingerprint(vae.state_dict(), [(file.name, file.stat().st_size) for file in files])
    if path.exists():
        cure = "delete it: it is computed again"
        with reading(path, cure=cure), np.load(path, allow_pickle=False) as archive:
            if "checksum" in archive.files and str(archive["origin"]) == origin:
                arrays = {key: archive[key] for key in sorted(LATENT_KEYS)}
                check_fingerprint(arrays, str(archive["checksum"]))
                return arrays
    rows: dict[str, list[np.ndarray]] = {}
    for file in tqdm(files, desc="latents", unit="episode", disable=not display):
        rollout = read_rollout(file)
        steps = len(rollout.next_observations)  # one less where the final frame is unknown
        frames = np.concatenate([rollout.observations[:1], rollout.next_observations])
        mu, logsigma = (part.numpy() for part in encode(vae, frames, device))
        if mu.shape[1] != size:
            raise ValueError(
                f"V gives latents of size {mu.shape[1]}, WMMDNRNNConfig.latent_size is {size}; "
                "make them equal"
            )
        episode = {"latents": mu[:steps], "logsigmas": logsigma[:steps]}
        episode |= {k: getattr(rollout, k)[:steps] for k in ("actions", "rewards", "terminals")}
        episode |= {"final_latents": mu[steps:], "final_logsigmas": logsigma[steps:]}
        for key, value in episode.items():
            rows.setdefault(key, []).append(value)
    rows["episode_starts"] = [np.cumsum([0, *map(len, rows["latents"][:-1])], dtype=np.int64)]
    arrays = {key: np.concatenate(rows[key]) for key in sorted(LATENT_KEYS)}
    with atomic_path(path) as temporary:
        np.savez(temporary, origin=origin, checksum=fingerprint(arrays), **arrays)
    return arrays


def latent_sets(
    latents: dict[str, Any], seq_len: int, num_test_files: int | None = None
) -> tuple[LatentSequenceDataset, LatentSequenceDataset | None]:
    """Training windows and held-out windows (None if no episode is held out), split by file."""
    count = len(latents["episode_starts"])
    cut = split_point(count, num_test_files)
    train = LatentSequenceDataset(latents, seq_len, range(cut))
    test = LatentSequenceDataset(latents, seq_len, range(cut, count)) if cut < count else None
    return train, test
