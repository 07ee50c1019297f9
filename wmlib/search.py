"""CMA-ES asks, and forgets nothing."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np


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
        axes: What coordinates mean, such as ``Axes``: the search then walks in coordinates that
            begin at zero, and candidates are ``start + axes(coordinates)``.

    Attributes:
        fitness: What was told so far, a list per generation.

    >>> Search(np.zeros(3), 0.5, pop_size=4).ask().shape
    (4, 3)

    Source: Hansen (2016), The CMA Evolution Strategy: A Tutorial.
    """

    def __init__(
        self,
        start: np.ndarray,
        sigma0: float,
        pop_size: int,
        seed: int = 0,
        diagonal: bool = True,
        axes: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:
        import cma  # brings matplotlib with it

        rng = np.random.default_rng(seed)
        self.fitness: list[list[float]] = []
        self.start, self.axes = np.array(start), axes
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
        origin = self.start if axes is None else np.zeros_like(self.start)
        self.strategy = cma.CMAEvolutionStrategy(origin, sigma0, options)

    def ask(self) -> np.ndarray:
        """The next population (P, n); the same one until ``tell``."""
        if self._asked is None:
            self._asked = self.strategy.ask()
        return self._place(np.array(self._asked))

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
        return self._place(np.array(self.strategy.mean))

    @property
    def sigma(self) -> float:
        """The step size."""
        return float(self.strategy.sigma)

    def _place(self, coordinates: np.ndarray) -> np.ndarray:
        return coordinates if self.axes is None else self.start + self.axes(coordinates)
