"""V and M learn: one loop, two losses."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from wmlib.checkpoints import (
    check_averages,
    check_room,
    check_settings,
    load_checkpoint,
    load_weights,
    locked,
    reading,
    save_checkpoint,
    write_json,
)
from wmlib.config import WMMDNRNNConfig, WMVAEConfig
from wmlib.datasets import Batches, ObservationDataset, SequenceDataset, Transform, epoch_seed
from wmlib.devices import autocast, choose_device, compiled, faster, quicken
from wmlib.latents import latent_sets, load_vae, precompute_latents
from wmlib.mdrnn import MDRNN, get_loss
from wmlib.pixels import frames_to_tensor
from wmlib.rollouts import origin, read_rollout, rollout_files
from wmlib.schedules import EarlyStopping, ReduceLROnPlateau
from wmlib.vae import ConvVAE, conv_vae_loss_fn, sample_latent

History = list[dict[str, float]]
OnSample = Callable[[nn.Module, int], None]
Losses = dict[str, Tensor]

IN_MEMORY = 120  # rollouts; of more, V sees so many at a time
CLIP = 1.0  # largest norm of M's gradient
# Steps over which V's rate rises: at once at its full rate, Adam pushes all weights above the last
# sigmoid one way on pale or dark games, until it is saturated for good.
WARM_UP = 100
# What may differ between two starts of one training: where it is, and how long it goes on. The
# learning rate may be lower than it was.
FREE = {"extra", "device", "data_dir", "logdir", "noreload", "nosamples", "sample_interval"}
FREE |= {"num_epochs", "early_stopping_patience"}


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
        ValueError: If the checkpoint is not one of this training; names what differs.
    """
    torch.manual_seed(config.seed)
    device, fresh = choose_device(config.device), vae is None
    vae = quicken((vae or ConvVAE(3, config.latent_size)).to(device))
    if device.type == "cuda":  # a CPU's library orders the weights itself, and better
        vae = vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = compiled(vae, device)
    data, size = config.data_dir, config.train_batch_size
    frames = [ObservationDataset(data, transform, part, IN_MEMORY, None) for part in (True, False)]
    train = Batches(frames[0], size, config.epoch_size, config.seed)
    test = Batches(frames[1], size, seed=config.seed, shuffle=False)

    def pictures(batch: Tensor) -> Tensor:
        x = batch.to(device, non_blocking=True)
        x = frames_to_tensor(x) if x.dtype == torch.uint8 else x
        return x.to(memory_format=torch.channels_last)  # (B, 3, 64, 64)

    def loss(batch: Tensor) -> Losses:
        x = pictures(batch)
        with autocast(device):
            recon, mu, logsigma = (part.float() for part in model(x))
        total = conv_vae_loss_fn(recon, x, mu, logsigma, config.beta, config.kl_tolerance)
        mse = F.mse_loss(recon.detach(), x, reduction="sum")
        return {"loss": total / len(x), "mse": mse / len(x)}

    with locked(Path(config.logdir) / "vae"):
        fit = Fit("vae", vae, config, loss, display, math.inf, WARM_UP, origin(data))
        if fresh and not fit.history:  # V's first pictures are as bright as the data
            mean = pictures(next(train(0))).mean((0, 2, 3)).clamp(0.01, 0.99)
            vae.decoder.deconv4.bias.data.copy_(mean.logit())  # type: ignore[union-attr, operator]
        return fit.run(train, test, None if config.nosamples else on_sample, config.sample_interval)


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
        on_sample: Called with the model and the epoch, at most four times in all.
        display: Show progress.

    Returns:
        A row per epoch: ``gmm`` in nats per step and the other losses, learning rate, seconds.

    Raises:
        FloatingPointError, ValueError: See ``train_convae``; the latter also if sizes do not fit.
    """
    device = choose_device(config.device)
    vae = (vae or load_vae(vae_config)).to(device).eval()
    sizes = (config.latent_size, config.action_size, config.hidden_size, config.gmm_components)
    torch.manual_seed(config.seed)
    mdrnn = (mdrnn or MDRNN(*sizes, config.mixture)).to(device)
    model = compiled(mdrnn, device)
    if precompute:
        latents = precompute_latents(vae_config, config, vae, display)
        sets: Any = latent_sets(latents, config.seq_len)
    else:
        data, size = config.data_dir, config.seq_len
        sets = [SequenceDataset(data, None, part, 16, None, seq_len=size) for part in (True, False)]
    train = Batches(sets[0], config.batch_size, seed=config.seed)
    test = Batches(sets[1], config.batch_size, seed=config.seed, shuffle=False)
    options = (config.include_reward, config.latent_size, config.terminal_weight)

    @torch.no_grad()
    def encoded(frames: Tensor) -> Tensor:  # z (B, T, L), sampled, of frames (B, T, 3, 64, 64)
        with autocast(device):
            mu, logsigma = vae.encoder(frames.flatten(0, 1))  # type: ignore[operator]
        z = sample_latent(mu.float(), logsigma.float())  # (B · T, L)
        return z.reshape(*frames.shape[:2], -1)

    def loss(batch: tuple[Tensor, ...]) -> Losses:
        obs, action, reward, terminal, next_obs = (part.to(device) for part in batch)
        if obs.ndim == 5:  # frames: the batch was not encoded beforehand
            obs, next_obs = encoded(obs), encoded(next_obs)
        if action.shape[-1] != config.action_size:
            raise ValueError(
                f"the rollouts in {config.data_dir} hold actions of size {action.shape[-1]}, "
                f"WMMDNRNNConfig.action_size is {config.action_size}; make them equal"
            )
        with autocast(device):
            return get_loss(model, obs, action, reward, terminal, next_obs, *options)

    with locked(Path(config.logdir) / "mdrnn"):
        fit = Fit("mdrnn", mdrnn, config, loss, display, CLIP, 0, origin(config.data_dir))
        return fit.run(train, test, on_sample, -(-config.num_epochs // 4))


@dataclass(eq=False)
class Fit:
    """Learn, check, slow down, save, stop: the loop that V and M share.

    All randomness of an epoch follows from its number, and all state is in ``checkpoint.tar``:
    a training that was stopped goes on as if it had not been.

    Args:
        stage: ``"vae"`` or ``"mdrnn"``: the folder in the logdir, and the name in messages.
        model: Whose weights are trained and saved.
        config: Epochs, rates, patience, seed, logdir.
        loss: From a batch to scalars, ``loss`` among them.
        display: Show progress.
        clip: Largest norm of the gradient; infinite by default.
        warm_up: Steps over which the rate rises, a quarter of all at most.
        origin: Of the data; a training goes on with data of the same.
    """

    stage: str
    model: nn.Module
    config: WMVAEConfig | WMMDNRNNConfig
    loss: Callable[[Any], Losses]
    display: bool = True
    clip: float = math.inf
    warm_up: int = 0
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config, weights, self.history = self.config, self.model.parameters(), History()
        self.folder = Path(config.logdir) / self.stage
        # best.tar, checkpoint.tar with Adam's averages, and the latter once more while it is new.
        size = 4 * (1 + 3 + 3) * sum(weight.numel() for weight in self.model.parameters())
        check_room(self.folder, size - sum(t.stat().st_size for t in self.folder.glob("*.tar")))
        self.optimizer = torch.optim.Adam(weights, lr=config.learning_rate, fused=True)
        self.early = EarlyStopping("min", config.early_stopping_patience)
        patience, factor = config.scheduler_patience, config.scheduler_factor
        self.plateau = ReduceLROnPlateau(self.optimizer, "min", patience, factor=factor)
        if not config.noreload and (self.folder / "checkpoint.tar").exists():
            if (self.folder / "best.tar").exists():
                self._resume(self.folder / "checkpoint.tar")
            else:
                print(f"{self.folder / 'best.tar'} is gone: what was trained begins anew")

    def run(
        self, train: Batches, test: Batches, on_sample: OnSample | None = None, every: int = 1
    ) -> History:
        """A row per epoch, until they or the patience end; what acts like ``Batches`` will do."""
        if memory := faster("memory"):
            memory.keep_freed_memory()
        epochs = self.config.num_epochs
        self.warm_up = min(self.warm_up, epochs * len(train) // 4)
        with SummaryWriter(self.folder / "tensorboard") as board:
            for epoch in range(len(self.history), epochs):
                if self.early.stop:
                    break
                row = self._epoch(epoch, train, test)
                # Before the epoch is saved, not after: Ctrl-C may make its queue hang.
                for key, value in row.items():
                    board.add_scalar(f"{self.stage}/{key}", value, epoch + 1)
                last = epoch + 1 == epochs or self.early.stop
                # Drawn before the epoch counts as done: a run killed in between draws it again.
                if on_sample and (last or (epoch + 1) % every == 0):
                    on_sample(self.model, epoch + 1)
                self._save()
        write_json(self.folder / "history.json", {"finished": True, "epochs": self.history})
        return self.history

    def _epoch(self, epoch: int, train: Batches, test: Batches) -> dict[str, float]:
        """One pass over each set; the row of the history."""
        began = time.perf_counter()
        self._slow_down(epoch)
        self.rate, self.steps = self.optimizer.param_groups[0]["lr"], epoch * len(train)
        torch.manual_seed(epoch_seed(self.config.seed, epoch))
        self.model.train()
        row = self._mean(train, epoch, self._step)
        self._set_rate(self.rate)
        self.model.eval()
        with torch.no_grad():
            row |= {f"test_{key}": x for key, x in self._mean(test, epoch, self.loss).items()}
        weights_hold = all(bool(weight.isfinite().all()) for weight in self.model.parameters())
        if not (weights_hold and all(map(math.isfinite, row.values()))):
            raise FloatingPointError(
                f"the loss of {self.stage} is no longer a number in epoch {epoch + 1} ({row}); the "
                f"epochs before it are kept in {self.folder}: lower the learning rate, run again"
            )
        watched = row.get("test_loss", row["loss"])  # what decides which weights are the best
        self.plateau.step(watched)
        self.early.step(watched)
        row |= {"epoch": epoch + 1, "lr": self.rate, "seconds": time.perf_counter() - began}
        self.history.append(row)
        return row

    def _slow_down(self, epoch: int) -> None:
        """One step along half a cosine, to a rate of 0 at the end; plateaus lower it further."""
        if epoch:
            turn = math.pi / self.config.num_epochs
            lower = (1 + math.cos(turn * epoch)) / (1 + math.cos(turn * (epoch - 1)))
            self._set_rate(self.optimizer.param_groups[0]["lr"] * lower)

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _step(self, batch: Any) -> Losses:
        """Loss, gradient, one step of Adam."""
        values = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.steps += 1
        self._set_rate(self.rate * min(1.0, self.steps / max(1, self.warm_up)))
        self.optimizer.step()
        return values

    def _mean(self, data: Batches, epoch: int, work: Callable[[Any], Losses]) -> dict[str, float]:
        """The mean of each value that ``work`` gives over the batches; {} without batches."""
        sums: Losses = {}
        title, quiet = f"{self.stage} {epoch + 1}", not self.display
        with tqdm(data(epoch), title, len(data), leave=False, unit="batch", disable=quiet) as bar:
            for batch in bar:
                for key, value in work(batch).items():
                    sums[key] = sums.get(key, torch.zeros_like(value)) + value.detach()
        return {key: float(value) / len(data) for key, value in sums.items()}

    def _save(self) -> None:
        """``best.tar`` where these weights are; ``checkpoint.tar``, all state; ``history.json``."""
        row: dict[str, Any] = self.history[-1]
        weights = {"epoch": len(self.history), "loss": row.get("test_loss", row["loss"])}
        weights |= {"config": self.config.to_dict(), "state_dict": self.model.state_dict()}
        weights |= self.origin
        if self.early.num_bad_epochs == 0:
            save_checkpoint(self.folder / "best.tar", weights)
        state = weights | {"optimizer": self.optimizer.state_dict()}
        state |= {"scheduler": self.plateau.state_dict(), "early_stopping": self.early.state_dict()}
        save_checkpoint(self.folder / "checkpoint.tar", state | {"history": self.history})
        write_json(self.folder / "history.json", {"finished": False, "epochs": self.history})

    def _resume(self, path: Path) -> None:
        """Put everything back to where the checkpoint left it."""
        state = load_checkpoint(path, next(self.model.parameters()).device)
        if missing := {"optimizer", "scheduler", "early_stopping", "history"} - state.keys():
            raise ValueError(
                f"{path} holds no {sorted(missing)}: no training of ours can go on from it; move "
                "it away, or begin anew with noreload"
            )
        if self.origin.get("rollouts") != state.get("rollouts") and self.origin:
            list(map(read_rollout, rollout_files(self.config.data_dir)))  # a damaged one is named
        with reading(path, "is no training to go on with", "delete it to begin anew"):
            now = {key: value for key, value in self.config.to_dict().items() if key not in FREE}
            before = state.get("config", {})
            lower = now["learning_rate"] / before.get("learning_rate", now["learning_rate"])
            if lower < 1:  # what helps where the loss was no longer a number
                now.pop("learning_rate")
            check_settings(path, before | state, now | self.origin)
            load_weights(self.model, state["state_dict"], str(path))
            # Other optimisers have other options; torch would load them and fail at the first step.
            if self.optimizer.param_groups[0].keys() - state["optimizer"]["param_groups"][0].keys():
                raise ValueError("written by another optimiser than this Adam, or another torch")
            self.optimizer.load_state_dict(state["optimizer"])
            check_averages(self.optimizer)
            self._set_rate(self.optimizer.param_groups[0]["lr"] * lower)
            self.plateau.load_state_dict(state["scheduler"])
            self.early.load_state_dict(state["early_stopping"])
            self.history = state["history"]
            numbers = [value for row in self.history for value in row.values()]
            if len(self.history) != state["epoch"] or not all(map(math.isfinite, numbers)):
                raise ValueError("its history is not one of numbers for each of its epochs")
