"""Does V see, does M foresee?"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmlib.datasets import LatentSequenceDataset
from wmlib.latents import encode
from wmlib.mdrnn import MDRNN
from wmlib.mixture import gmm_loss, sample_gmm
from wmlib.pixels import frames_to_tensor
from wmlib.vae import ConvVAE, kl_divergence

ACTIVE = 0.05  # nats of KL from which a latent counts as used


@torch.inference_mode()
def diagnose_vae(vae: ConvVAE, frames: np.ndarray) -> dict[str, Any]:
    """How well V draws frames (N, 64, 64, 3) uint8, and with how many of its latents.

    Returns:
        ``error``: mean squared error per frame, summed over pixels, as in the loss; ``error_95``:
        its 95th percentile; ``mean_frame``: the error of always drawing their mean; ``kl``: nats
        of each latent (L,), ``active``: how many of them carry more than 0.05.
    """
    device, errors = next(vae.parameters()).device, []
    mu, logsigma = encode(vae, frames, device)
    for chunk, z in zip(torch.from_numpy(frames).split(200), mu.split(200), strict=True):
        difference = vae.decoder(z.to(device)) - frames_to_tensor(chunk.to(device))
        errors.append(difference.pow(2).sum((1, 2, 3)).cpu())
    error, kl = torch.cat(errors), kl_divergence(mu, logsigma).mean(0)  # (N,), (L,)
    return {
        "error": float(error.mean()),
        "error_95": float(error.quantile(0.95)),
        "mean_frame": float(np.var(frames / np.float32(255), axis=0).sum()),
        "kl": [float(value) for value in kl],
        "active": int((kl > ACTIVE).sum()),
    }


def in_words(found: dict[str, Any]) -> str:
    """Whether V or M beats knowing nothing, from what ``diagnose_vae`` or ``_mdrnn`` found."""
    if "mean_frame" in found:
        name, own, naive, rival = "V", found["error"], found["mean_frame"], "the mean frame"
        unit, cure = "squared error per frame", "more frames, or a lower learning rate, may help"
    else:
        name, own, naive, rival = "M", found["nll"], found["persistence"], "z staying as it is"
        unit, cure = "nats per step", "more episodes, or more epochs, may help"
    verdict, advice = ("beats", "") if own < naive else ("is NO better than", f"; {cure}")
    return f"{name} {verdict} {rival}: {unit} {own:.1f} against {naive:.1f}{advice}"


def entropy_floor(logsigma: Tensor) -> float:
    """Mean entropy of q(z | x), logsigma (…, L), in nats: no prediction of a sample beats it."""
    return float((logsigma + 0.5 * math.log(2 * math.pi * math.e)).sum(-1).mean())


@torch.inference_mode()
def diagnose_mdrnn(
    mdrnn: MDRNN, dataset: LatentSequenceDataset, windows: int = 256, seed: int = 0
) -> dict[str, float]:
    """M's one-step prediction on held-out windows, between its floor and two naive ones.

    Returns, in nats per step: ``nll`` of M; ``floor``, the entropy of q(z | x); ``gaussian``, one
    diagonal Gaussian for all z; ``persistence``, a Gaussian around the last z. And ``reward_mse``
    beside ``reward_variance``.
    """
    device = mdrnn.gmm_linear.weight.device
    generator = torch.Generator().manual_seed(seed)
    index = torch.linspace(0, len(dataset) - 1, min(windows, len(dataset))).long()
    z, action, reward, _, z_next = (part.to(device) for part in dataset.batch(index, generator))
    steps = dataset.starts[index, None] + torch.arange(1, dataset.seq_len + 1)
    mus, sigmas, logpi, r, _ = mdrnn(action.transpose(0, 1), z.transpose(0, 1))
    return {
        "nll": float(gmm_loss(z_next.transpose(0, 1), mus, sigmas, logpi)),
        "floor": entropy_floor(dataset.logsigma[steps.to(dataset.logsigma.device)]),
        "gaussian": _gaussian_nll(z_next - z_next.mean((0, 1))),
        "persistence": _gaussian_nll(z_next - z),
        "reward_mse": float((r.transpose(0, 1) - reward).pow(2).mean()),
        "reward_variance": float(reward.var()),
    }


def _gaussian_nll(residual: Tensor) -> float:
    """Nats per step of residuals (B, T, L) under the diagonal Gaussian that fits them best."""
    return float(0.5 * (2 * math.pi * math.e * residual.pow(2).mean((0, 1))).log().sum())


@torch.inference_mode()
def open_loop_error(
    mdrnn: MDRNN,
    dataset: LatentSequenceDataset,
    burn_in: int,
    windows: int = 256,
    temperature: float = 1e-4,
    seed: int = 0,
) -> dict[str, list[float]]:
    """How fast a dream and the world part, when both are given the same actions.

    Args:
        dataset: Held-out windows, to take ``windows`` of; ``seq_len - burn_in`` is the horizon.
        burn_in: Real steps that M sees first.
        temperature: τ of the dream; near 0 it follows the likeliest mean, without noise that no
            prediction could match.
        seed: Seed of its noise.

    Returns:
        For each step of the horizon, the squared distance from the real mu (summed over L) of the
        ``dream``, of ``persistence`` (the last real z for ever), and of the ``average`` frame.
    """
    device = mdrnn.gmm_linear.weight.device
    cell, generator = mdrnn.to_cell(), torch.Generator(device).manual_seed(seed)
    index = torch.linspace(0, len(dataset) - 1, min(windows, len(dataset))).long()
    steps = dataset.starts[index, None] + torch.arange(dataset.seq_len + 1)
    mu, action = dataset.mu[steps].to(device), dataset.actions[steps].to(device)  # (B, T + 1, ·)
    hidden = cell.watch(action[:, :burn_in], mu[:, :burn_in])
    z, last, average = mu[:, burn_in], mu[:, burn_in], mu.mean((0, 1))
    errors: dict[str, list[float]] = {"dream": [], "persistence": [], "average": []}
    for t in range(burn_in, dataset.seq_len):
        mus, sigmas, logpi, _, _, hidden = cell(action[:, t], z, hidden)
        z = sample_gmm(mus, sigmas, logpi, temperature, generator)
        for name, guess in zip(errors, (z, last, average), strict=True):
            errors[name].append(float((guess - mu[:, t + 1]).pow(2).sum(-1).mean()))
    return errors
