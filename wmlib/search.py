"""Where to look next: CMA-ES, and the directions that matter."""

from __future__ import annotations

import itertools
import math
from typing import Any

import cma
import numpy as np
import torch

from wmlib.mdrnn import MDRNNCell

__all__ = ["Search", "hidden_states", "principal_basis"]


class Search:
    """CMA-ES that maximises, and that resumes exactly without pickles.

    All its randomness comes from the seed, so the recorded fitness values are its whole state:
    a search replayed from them is where it was.

    Args:
        start: The first mean (n,).
        sigma0: The first step size.
        pop_size: Candidates per generation.
        seed: Seed of the samples.
        diagonal: Keep the covariance matrix diagonal.
        basis: Search only along these directions, ``start + basis @ y``: (n, m). All by default.

    Attributes:
        fitness: What was told so far, a list per generation.

    Source: Hansen (2016), The CMA Evolution Strategy: A Tutorial.
    """

    def __init__(
        self,
        start: np.ndarray,
        sigma0: float,
        pop_size: int,
        seed: int = 0,
        diagonal: bool = True,
        basis: np.ndarray | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.start, self.basis = np.asarray(start, dtype=np.float64), basis
        self.fitness: list[list[float]] = []
        self._asked: list[np.ndarray] | None = None
        options: dict[str, Any] = {
            "popsize": pop_size,
            "seed": math.nan,  # leaves numpy's global state alone; ours is below
            "randn": lambda count, size: rng.standard_normal((count, size)),
            "CMA_diagonal": diagonal,
            "verbose": -9,
            # Noisy returns must not end the search; whoever runs it says when.
            "tolfun": 0, "tolfunhist": 0, "tolx": 0, "tolstagnation": 0, "tolflatfitness": 10**9,
        }  # fmt: skip
        size = len(self.start) if basis is None else basis.shape[1]
        self.strategy = cma.CMAEvolutionStrategy(np.zeros(size), sigma0, options)

    def _full(self, y: np.ndarray) -> np.ndarray:
        """Parameters (…, n) at the searched coordinates (…, m)."""
        return np.asarray(self.start + (y if self.basis is None else y @ self.basis.T))

    def ask(self) -> np.ndarray:
        """The next population (P, n); the same one until ``tell``."""
        if self._asked is None:
            self._asked = self.strategy.ask()
        return self._full(np.array(self._asked))

    def tell(self, fitness: np.ndarray) -> None:
        """The population's fitness (P,), larger is better."""
        self.ask()
        # The one change of sign: CMA-ES minimises.
        self.strategy.tell(self._asked, [-float(value) for value in fitness])
        self.fitness.append([float(value) for value in fitness])
        self._asked = None

    @property
    def mean(self) -> np.ndarray:
        """The mean of the search distribution (n,), which is scored and kept."""
        return self._full(np.array(self.strategy.mean))

    @property
    def sigma(self) -> float:
        """The step size."""
        return float(self.strategy.sigma)


@torch.inference_mode()
def hidden_states(cell: MDRNNCell, latents: dict[str, np.ndarray], steps: int = 100) -> np.ndarray:
    """h (N, H) that M reaches on recorded episodes, the first half of each window left out.

    Args:
        cell: M, one step at a time.
        latents: The arrays of ``precompute_latents``.
        steps: Length of the windows that M is run over, from h = 0.

    Raises:
        ValueError: If no episode is that long.
    """
    bounds = np.append(latents["episode_starts"], len(latents["latents"]))
    begins = [
        begin
        for first, end in itertools.pairwise(bounds)
        for begin in range(first, end - steps + 1, steps)
    ]
    if not begins:
        raise ValueError(f"no recorded episode has {steps} steps, over which M could be run")
    index = np.array(begins)[:, None] + np.arange(steps)  # (W, steps)
    device = cell.gmm_linear.weight.device
    z, a = (torch.from_numpy(latents[key]).to(device) for key in ("latents", "actions"))
    hidden, kept = cell.get_init_hidden(len(index)), []
    for t, now in enumerate(index.T):
        hidden = cell.step(a[now], z[now], hidden)
        if t >= steps // 2:
            kept.append(hidden[0].cpu().numpy())
    return np.concatenate(kept)


def principal_basis(hidden: np.ndarray, latents: int, actions: int, count: int) -> np.ndarray:
    """Directions in C's parameters that act on z and on h's first principal components.

    Most of h's 256 units move together: their first few dozen principal components, scaled to unit
    variance, hold nearly all that C could read from h. Searching C's weights on these alone leaves
    C the linear map of [z, h] that it is, but gives CMA-ES a few dozen inputs instead of 288.

    Args:
        hidden: States h (N, H) that M reached.
        latents: L.
        actions: A.
        count: Principal components.

    Returns:
        A basis (A·(L + H) + A, A·(L + count + 1)) for ``Search``, in the order of
        ``flatten_parameters``.
    """
    mean = hidden.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(hidden - mean, rowvar=False))  # ascending
    top = axes[:, ::-1][:, :count] / np.sqrt(variances[::-1][:count])  # (H, count)
    size, inputs = latents + count + 1, latents + len(mean)
    weights = np.zeros((inputs, size))  # of one action
    weights[:latents, :latents] = np.eye(latents)
    weights[latents:, latents:-1] = top
    bias = np.zeros(size)
    bias[latents:-1] = -mean @ top  # the components are read around their mean
    bias[-1] = 1
    every = np.eye(actions)
    return np.concatenate([np.kron(every, weights), np.kron(every, bias)])
