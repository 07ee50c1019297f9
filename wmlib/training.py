"""Two loops of one shape."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmlib.batches import FrameBatches, LatentBatches, WindowBatches
from wmlib.config import WMMDNRNNConfig, WMVAEConfig
from wmlib.datasets import ObservationDataset, SequenceDataset, Transform
from wmlib.devices import autocast, choose_device, compiled
from wmlib.latents import latent_sets, load_vae, precompute_latents
from wmlib.loop import Batches, History, OnSample, fit
from wmlib.mdrnn import MDRNN, get_loss
from wmlib.pixels import frames_to_tensor
from wmlib.vae import ConvVAE, conv_vae_loss_fn

__all__ = ["train_convae", "train_mdn_rnn"]


def train_convae(
    config: WMVAEConfig,
    vae: nn.Module | None = None,
    transform: Transform | None = None,
    on_sample: OnSample | None = None,
    display: bool = True,
) -> History:
    """Train V on single frames; checkpoints in ``<logdir>/vae``; resumes.

    Args:
        config: Every setting.
        vae: A model of the reader's own, or one to start from: ``vae(x)`` → ``(recon, mu,
            logsigma)``. A fresh ``ConvVAE`` by default.
        transform: Any callable on a frame (3, 64, 64).
        on_sample: Called with the model and the epoch every ``sample_interval`` epochs.
        display: Show progress.

    Returns:
        A row per epoch: losses per frame, learning rate, seconds.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    torch.manual_seed(config.seed)
    device = choose_device(config.device)
    vae = (vae or ConvVAE(3, config.latent_size)).to(device)
    if device.type == "cuda":  # a CPU's library orders the weights itself, and better
        vae = vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = compiled(vae, device, config.compile)
    size, batch, held_out = config.epoch_size, config.train_batch_size, config.num_test_files
    train, test = (
        FrameBatches(
            ObservationDataset(config.data_dir, transform, is_train, num_test_files=held_out),
            batch, size if is_train else 0, config.seed, device,
        )
        for is_train in (True, False)
    )  # fmt: skip

    def loss(frames: Tensor) -> dict[str, Tensor]:
        x = frames_to_tensor(frames) if frames.dtype == torch.uint8 else frames
        x = x.to(memory_format=torch.channels_last)
        with autocast(device, config.amp):
            recon, mu, logsigma = (part.float() for part in model(x))
        total = conv_vae_loss_fn(recon, x, mu, logsigma, config.beta, config.kl_tolerance)
        mse = F.mse_loss(recon.detach(), x, reduction="sum")
        return {"loss": total / len(x), "mse": mse / len(x)}

    optimizer = torch.optim.Adam(vae.parameters(), lr=config.learning_rate, fused=True)
    return fit("vae", vae, optimizer, config, loss, train, test, on_sample, display)


def train_mdn_rnn(
    vae_config: WMVAEConfig,
    config: WMMDNRNNConfig,
    vae: nn.Module | None = None,
    mdrnn: nn.Module | None = None,
    precompute: bool = True,
    on_sample: OnSample | None = None,
    display: bool = True,
) -> History:
    """Train M on windows of latents; checkpoints in ``<logdir>/mdrnn``; resumes.

    Args:
        vae_config: Where V is.
        config: Every setting of M.
        vae: V, if it is not the ``best.tar`` of ``vae_config.logdir``.
        mdrnn: A model of the reader's own, or one to start from; see ``MDRNN`` for its contract.
        precompute: Encode all frames once, rather than each batch again.
        on_sample: Called with the model and the epoch every few epochs.
        display: Show progress.

    Returns:
        A row per epoch: ``gmm`` in nats per step and the other losses, learning rate, seconds.

    Raises:
        FloatingPointError: If the loss is no longer a number.
    """
    device = choose_device(config.device)
    vae = (vae or load_vae(vae_config)).to(device).eval()
    sizes = (config.latent_size, config.action_size, config.hidden_size, config.gmm_components)
    torch.manual_seed(config.seed)
    mdrnn = (mdrnn or MDRNN(*sizes, config.mixture)).to(device)
    model = compiled(mdrnn, device, config.compile)

    train, test = _windows(vae_config, config, vae, precompute, display)

    def loss(batch: list[Tensor]) -> dict[str, Tensor]:
        obs, action, reward, terminal, next_obs = (part.to(device) for part in batch)
        if obs.ndim == 5:  # frames (B, T, 3, 64, 64): the batch was not encoded beforehand
            obs, next_obs = (_to_latent(vae, x, device, config.amp) for x in (obs, next_obs))
        if action.shape[-1] != config.action_size:
            raise ValueError(
                f"the rollouts in {config.data_dir} hold actions of size {action.shape[-1]}, "
                f"WMMDNRNNConfig.action_size is {config.action_size}; make them equal"
            )
        with autocast(device, config.amp):
            return get_loss(
                model, obs, action, reward, terminal, next_obs,
                config.include_reward, config.latent_size, config.terminal_weight,
            )  # fmt: skip

    adam = config.optimizer == "adam"
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(mdrnn.parameters(), lr=config.learning_rate, fused=True)
        if adam
        else torch.optim.RMSprop(mdrnn.parameters(), lr=config.learning_rate, alpha=0.9)
    )
    return fit("mdrnn", mdrnn, optimizer, config, loss, train, test, on_sample, display)


def _windows(
    vae_config: WMVAEConfig,
    config: WMMDNRNNConfig,
    vae: nn.Module,
    precompute: bool,
    display: bool,
) -> tuple[Batches, Batches]:
    """Training and held-out windows for M: of latents in memory, or of frames."""
    batch, size, seed = config.batch_size, config.epoch_size, config.seed
    if precompute:
        latents = precompute_latents(vae_config, config, vae, display)
        sets = latent_sets(latents, config.seq_len, config.num_test_files)
        return (
            LatentBatches(sets[0], batch, size, seed, shuffle=True),
            LatentBatches(sets[1], batch, 0, seed, shuffle=False),
        )
    train, test = (
        SequenceDataset(
            config.data_dir, None, is_train, 16, config.num_test_files, seq_len=config.seq_len
        )
        for is_train in (True, False)
    )
    return (
        WindowBatches(train, batch, size, seed, shuffle=True),
        WindowBatches(test, batch, 0, seed, shuffle=False),
    )


@torch.no_grad()
def _to_latent(vae: nn.Module, frames: Tensor, device: torch.device, amp: bool) -> Tensor:
    """z (B, T, L), sampled, of frames (B, T, 3, 64, 64)."""
    with autocast(device, amp):
        mu, logsigma = vae.encoder(frames.flatten(0, 1))  # type: ignore[operator]
    z: Tensor = mu.float() + logsigma.float().exp() * torch.randn_like(mu.float())
    return z.view(*frames.shape[:2], -1)
