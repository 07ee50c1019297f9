"""Learn, check, slow down, save, stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from wmlib.batches import epoch_seed
from wmlib.checkpoints import load_checkpoint, load_weights, save_checkpoint, write_json
from wmlib.config import WMMDNRNNConfig, WMVAEConfig
from wmlib.schedules import EarlyStopping, ReduceLROnPlateau

__all__ = ["Batches", "History", "OnSample", "fit"]

History = list[dict[str, float]]
OnSample = Callable[[nn.Module, int], None]


class Batches(Protocol):
    """Examples in batches, drawn afresh in every epoch; none of them is an empty epoch."""

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        ...

    def __call__(self, epoch: int) -> Iterator[Any]:
        """The batches of one epoch; the same ones for the same number."""
        ...


def fit(
    stage: str,
    model: nn.Module,
    optimizer: Optimizer,
    config: WMVAEConfig | WMMDNRNNConfig,
    loss: Callable[[Any], dict[str, Tensor]],
    train: Batches,
    test: Batches,
    on_sample: OnSample | None = None,
    display: bool = True,
) -> History:
    """Train until the epochs or the patience are at their end; goes on where it was stopped.

    Args:
        stage: ``"vae"`` or ``"mdrnn"``: the folder in the logdir, and the name in messages.
        model: Whose weights are saved.
        optimizer: Of the model's parameters.
        config: Epochs, schedule, patience, seed, logdir.
        loss: From a batch to scalars, ``loss`` among them.
        train: What to learn from.
        test: What was held out; without batches the training loss decides what is best.
        on_sample: Called with the model and the epoch, every ``sample_interval`` epochs.
        display: Show progress.

    Returns:
        A row per epoch.

    Raises:
        FloatingPointError: If the loss is no longer a number.
        ValueError: If the checkpoint is not one of this training.
    """
    folder = Path(config.logdir) / stage
    early = EarlyStopping("min", config.early_stopping_patience)
    plateau = ReduceLROnPlateau(
        optimizer, "min", config.scheduler_patience, factor=config.scheduler_factor
    )
    history: History = []
    if not config.noreload and (folder / "checkpoint.tar").exists():
        history = _resume(folder / "checkpoint.tar", model, optimizer, plateau, early)
        for group in optimizer.param_groups:  # a lower rate that is asked for now holds
            group["lr"] = min(group["lr"], config.learning_rate)
    clip = getattr(config, "grad_clip", 0.0)

    def step(values: dict[str, Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        values["loss"].backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()

    with SummaryWriter(folder / "tensorboard") as board:
        for epoch in range(len(history), config.num_epochs):
            if early.stop:
                break
            began = time.perf_counter()
            if config.schedule == "cosine":
                for group in optimizer.param_groups:
                    progress = epoch / config.num_epochs
                    group["lr"] = config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
            # All randomness of an epoch follows from its number: a resumed run is the same run.
            torch.manual_seed(epoch_seed(config.seed, epoch))
            rate = optimizer.param_groups[0]["lr"]
            model.train()
            row = _mean(train, epoch, loss, step, f"{stage} {epoch + 1}", display)
            model.eval()
            with torch.no_grad():
                held_out = _mean(test, epoch, loss, None, f"{stage} test", display)
            row |= {f"test_{key}": value for key, value in held_out.items()}
            weights_hold = all(bool(weight.isfinite().all()) for weight in model.parameters())
            if not (weights_hold and all(map(math.isfinite, row.values()))):
                raise FloatingPointError(
                    f"the loss of {stage} is no longer a number in epoch {epoch + 1} ({row}); the "
                    f"epochs before it are kept in {folder}: lower the learning rate, run again"
                )
            watched = row.get("test_loss", row["loss"])
            if config.schedule == "plateau":
                plateau.step(watched)
            early.step(watched)
            row |= {"epoch": epoch + 1, "lr": rate, "seconds": time.perf_counter() - began}
            history.append(row)
            for key, value in row.items():
                board.add_scalar(f"{stage}/{key}", value, epoch + 1)
            weights = {"epoch": epoch + 1, "loss": watched, "state_dict": model.state_dict()}
            if early.num_bad_epochs == 0:
                save_checkpoint(folder / "best.tar", weights)
            save_checkpoint(
                folder / "checkpoint.tar",
                weights
                | {
                    "optimizer": optimizer.state_dict(),
                    "scheduler": plateau.state_dict(),
                    "early_stopping": early.state_dict(),
                    "history": history,
                },
            )
            write_json(folder / "history.json", {"finished": False, "epochs": history})
            last = epoch + 1 == config.num_epochs or early.stop
            due = (epoch + 1) % getattr(config, "sample_interval", 5) == 0
            if on_sample and not config.nosamples and (due or last):
                on_sample(model, epoch + 1)
    write_json(folder / "history.json", {"finished": True, "epochs": history})
    return history


def _resume(
    path: Path,
    model: nn.Module,
    optimizer: Optimizer,
    plateau: ReduceLROnPlateau,
    early: EarlyStopping,
) -> History:
    """Put everything back to where the checkpoint left it; the rows so far."""
    state = load_checkpoint(path, next(model.parameters()).device)
    missing = {"optimizer", "scheduler", "early_stopping", "history"} - state.keys()
    if missing:
        raise ValueError(
            f"{path} holds no {sorted(missing)}: no training of ours can go on from it; move it "
            "away, or begin anew with noreload"
        )
    load_weights(model, state["state_dict"], str(path))
    # Adam's options are not RMSprop's; torch itself would load them and fail at the first step.
    if optimizer.param_groups[0].keys() - state["optimizer"]["param_groups"][0].keys():
        raise ValueError(
            f"{path} was written by another optimiser than this {type(optimizer).__name__}, or by "
            "another torch; give the old one to go on, or another logdir to begin anew"
        )
    optimizer.load_state_dict(state["optimizer"])
    plateau.load_state_dict(state["scheduler"])
    early.load_state_dict(state["early_stopping"])
    history: History = state["history"]
    return history


def _mean(
    batches: Batches,
    epoch: int,
    loss: Callable[[Any], dict[str, Tensor]],
    step: Callable[[dict[str, Tensor]], None] | None,
    title: str,
    display: bool,
) -> dict[str, float]:
    """Run ``loss`` (and ``step``) over the batches; the mean of each value, {} without batches."""
    sums: dict[str, Tensor] = {}
    count = 0
    bar = tqdm(total=len(batches), desc=title, unit="batch", disable=not display, leave=False)
    for batch in batches(epoch):
        bar.update()
        values = loss(batch)
        if step is not None:
            step(values)
        count += 1
        for key, value in values.items():
            sums[key] = sums.get(key, torch.zeros_like(value)) + value.detach()
    bar.close()
    return {key: float(value) / count for key, value in sums.items()}
