"""The directions in which C's inputs vary, for a search to walk along."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from wmlib.checkpoints import atomic_path

LEAST = 1e-5  # of the largest variance; with less, a direction counts as one that never varies


class Axes:
    """Coordinates of a linear C in which a step of one size changes C's outputs by as much.

    C's inputs vary a lot in a few directions and little in most. Noise of one size on every weight
    changes what C does almost only by way of those few, so a search hardly ever tries the others.
    Here a direction in which the inputs have the variance λ gets noise of the size λ^-power, whose
    effect is λ^(1/2-power): at 0 the search is the plain one, at 1/2 every direction counts the
    same, the meaningless ones too, and 1/4 is between.

    Attributes:
        directions: Columns of one length, (S + 1, S + 1): the inputs', and last the bias's 1.
        steps: Noise along each of them (S + 1,), so that N(0, σ² I) changes each output by σ, as
            the root of the mean square over what C saw. Where nothing varies they are 0.
    """

    def __init__(self, directions: np.ndarray, steps: np.ndarray) -> None:
        self.directions, self.steps = directions, steps

    @classmethod
    def of(cls, moments: np.ndarray, power: float = 0.25) -> Axes:
        """The axes of what C saw, from the mean of x xᵀ with x = [inputs, 1]; (S + 1, S + 1)."""
        variances, directions = np.linalg.eigh(moments)
        varies = variances > LEAST * variances.max()
        variances = np.where(varies, variances, 1.0)
        steps = np.where(varies, variances**-power, 0.0)
        return cls(directions, steps / np.sqrt((variances * steps**2).sum()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Axes:
        """What ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["directions"].astype(np.float64), arrays["steps"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them as ``.npz``: drawn again elsewhere, they might have other signs."""
        self.directions = self.directions.astype(np.float32).astype(np.float64)
        with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
            directions = self.directions.astype(np.float32)
            np.savez_compressed(file, directions=directions, steps=self.steps)

    def __call__(self, coordinates: np.ndarray) -> np.ndarray:
        """Flat parameters (…, P), weights before biases, from as many coordinates."""
        rows = coordinates.reshape(*coordinates.shape[:-1], -1, len(self.steps))
        changes = (rows * self.steps) @ self.directions.T
        weights = changes[..., :-1].reshape(*coordinates.shape[:-1], -1)
        return np.concatenate([weights, changes[..., -1]], axis=-1)
