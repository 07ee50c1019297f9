"""When to slow down, when to stop."""

import math
from typing import Any

from torch.optim import Optimizer


class _Plateau:
    """Counts the steps since a metric last got better by more than a threshold.

    Args:
        mode: ``"min"`` or ``"max"``: which way is better.
        patience: Bad steps that are borne.
        threshold: How much better counts.
        threshold_mode: ``"rel"``: a fraction of the best value's *size*, so that it is right for
            losses below zero as well; ``"abs"``: in the metric's own unit.
    """

    def __init__(
        self,
        mode: str = "min",
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', found {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold_mode must be 'rel' or 'abs', found {threshold_mode!r}")
        if patience < 0 or threshold < 0:
            raise ValueError(f"patience {patience} and threshold {threshold} must not be negative")
        self.mode, self.patience = mode, patience
        self.threshold, self.threshold_mode = threshold, threshold_mode
        self.best: float | None = None
        self.num_bad_epochs = 0

    def is_better(self, value: float) -> bool:
        """Whether ``value`` beats the best so far by more than the threshold."""
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        margin = self.threshold * (abs(self.best) if self.threshold_mode == "rel" else 1)
        return value < self.best - margin if self.mode == "min" else value > self.best + margin

    def step(self, value: float) -> None:
        """Take note of the metric after one more epoch."""
        value = float(value)
        if self.is_better(value):
            self.best, self.num_bad_epochs = value, 0
        else:
            self.num_bad_epochs += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers only, so that a checkpoint needs no pickles."""
        return {"best": self.best, "num_bad_epochs": self.num_bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``."""
        self.best, self.num_bad_epochs = state["best"], int(state["num_bad_epochs"])


class EarlyStopping(_Plateau):
    """``stop`` turns true after more than ``patience`` epochs without progress."""

    @property
    def stop(self) -> bool:
        """Whether to end the training."""
        return self.num_bad_epochs > self.patience


class ReduceLROnPlateau(_Plateau):
    """Multiplies the learning rate by ``factor`` after more than ``patience`` bad epochs.

    torch's own takes a relative threshold of a negative loss the wrong way round.

    Args:
        optimizer, factor: Whose rates are lowered, and by what (0 to 1).
        mode, patience, threshold, threshold_mode: See ``EarlyStopping``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        patience: int = 5,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        factor: float = 0.5,
    ) -> None:
        super().__init__(mode, patience, threshold, threshold_mode)
        if not 0 < factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, found {factor}")
        self.optimizer, self.factor = optimizer, factor

    def step(self, value: float) -> None:
        """Take note of the metric; lower the rates when patience is at its end."""
        super().step(value)
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                group["lr"] *= self.factor
            self.num_bad_epochs = 0
