"""What V loses, where it matters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wmlib.latents import encode
from wmlib.pixels import frames_to_tensor
from wmlib.rollouts import read_rollout
from wmlib.vae import ConvVAE

GROUND = 56  # rows of a frame above the dashboard
CAR = (slice(43, 54), slice(29, 36))  # rows and columns of the car, which is red as well
AROUND, HELD = 31, 0.3  # steps, and the steering over them that makes a bend a hairpin


def kerbs(frames: np.ndarray) -> np.ndarray:
    """Which pixels are red or white kerbs, (N, 64, 64) bool, in frames (N, 64, 64, 3) uint8.

    The game draws them along its sharp bends, and only there.
    """
    red, green, blue = np.moveaxis(frames.astype(np.int16), -1, 0)
    found: np.ndarray = red - np.maximum(green, blue) > 100
    found[:, *CAR] = False
    found |= np.minimum(red, np.minimum(green, blue)) > 200
    found[:, GROUND:] = False
    return found


def hairpins(actions: np.ndarray) -> np.ndarray:
    """Around which steps (T,) bool the wheel is held to one side for 31 steps; actions (T, 3)."""
    sums = np.convolve(actions[:, 0], np.ones(AROUND), mode="full")
    middle = sums[AROUND // 2 :][: len(actions)]
    held: np.ndarray = np.abs(middle) >= HELD * AROUND
    return held


@torch.inference_mode()
def look(vae: ConvVAE, files: Sequence[Path]) -> dict[str, dict[str, float]]:
    """How far V's pictures of episodes are from the game's, for each game by itself.

    Returns:
        By game (``"gymnasium"``, ``"envpool"``): ``frames``, how many; ``error``, the squared error
        per frame, summed over pixels, as in the loss; ``error_95``, its 95th percentile;
        ``hairpins``, the error per frame in hairpins, and ``hairpin_frames``; ``kerbs``, the error
        per pixel of a kerb, and ``kerb_pixels``.
    """
    device = next(vae.parameters()).device
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for rollout in map(read_rollout, files):
        game = rollout.env_id.partition("(")[2].rstrip(")")  # as collection signs its files
        mu, _ = encode(vae, rollout.observations)
        errors = []
        for frames, z in zip(
            torch.from_numpy(rollout.observations).split(200), mu.split(200), strict=True
        ):
            missed = vae.decoder(z.to(device)) - frames_to_tensor(frames.to(device))
            errors.append(missed.square().sum(1).cpu())  # (n, 64, 64)
        error = torch.cat(errors).numpy()
        part = (error.sum((1, 2)), hairpins(rollout.actions), error[kerbs(rollout.observations)])
        parts.setdefault(game, []).append(part)
    seen = {}
    for game, rows in sorted(parts.items()):
        error, bends, kerb = (np.concatenate(part) for part in zip(*rows, strict=True))
        seen[game] = {
            "frames": len(error),
            "error": float(error.mean()),
            "error_95": float(np.quantile(error, 0.95)),
            "hairpins": float(error[bends].mean()) if bends.any() else 0.0,
            "hairpin_frames": int(bends.sum()),
            "kerbs": float(kerb.mean()) if len(kerb) else 0.0,
            "kerb_pixels": len(kerb),
        }
    return seen
