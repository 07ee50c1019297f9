"""A driver's hand, carried over to other eyes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from wmlib.agent import Agent
from wmlib.latents import encode
from wmlib.rollouts import Rollout, read_rollout

__all__ = ["imitate", "input_moments"]

TOGETHER = 16  # episodes that M remembers side by side
RIDGE = 1.0  # added to the sums of squares, so that inputs that never vary get no weight
TELLING = 0.05  # variance of a latent's mean; of all that V could tell with it, which is 1


def imitate(pupil: Agent, driver: Agent, files: Sequence[Path], display: bool = True) -> np.ndarray:
    """C for new V and M that does what another agent would have done, by least squares.

    A controller belongs to the V and M it was evolved with: other latents have other meanings. But
    both agents can watch the same episodes, and C is linear, so the closest C has a closed form.
    A search that starts there need not learn again what its predecessor knew.

    Latents that tell nothing get no weight. Their means still vary a little, and a C that leans on
    that cannot act on samples of z, nor in a dream, where these latents are noise.

    Args:
        pupil: V and M, and C's architecture, one linear map.
        driver: Whoever is imitated, with V, M and C of its own.
        files: Rollouts to watch.
        display: Show progress.

    Returns:
        C's flat parameters (P,), as ``load_parameters`` takes them.
    """
    squares: Tensor | float = 0.0
    products: Tensor | float = 0.0
    for rollouts in _batches(files, "imitating", display):
        inputs = _with_one(_states(pupil, rollouts))
        with torch.inference_mode():
            told = driver.controller(_states(driver, rollouts).float().to(driver.device))
        squares = squares + inputs.T @ inputs
        products = products + inputs.T @ told.cpu().double()
    assert isinstance(squares, Tensor), "no rollouts to watch"
    assert isinstance(products, Tensor)
    silent = _silent(squares / squares[-1, -1], pupil.vae.latent_size)
    squares[silent], squares[:, silent], products[silent] = 0.0, 0.0, 0.0
    solution = torch.linalg.solve(squares + RIDGE * torch.eye(len(squares)), products)
    return torch.cat([solution[:-1].T.reshape(-1), solution[-1]]).numpy()


def input_moments(agent: Agent, files: Sequence[Path], display: bool = True) -> np.ndarray:
    """How C's inputs vary while others play: the mean of x xᵀ with x = [inputs, 1].

    Args:
        agent: V and M.
        files: Rollouts to watch.
        display: Show progress.

    Returns:
        (S + 1, S + 1) float64, as ``Axes.of`` takes it; zeros where a latent tells nothing.
    """
    squares = torch.zeros(())
    for rollouts in _batches(files, "watching", display):
        inputs = _with_one(_states(agent, rollouts))
        squares = squares + inputs.T @ inputs
    moments = squares / squares[-1, -1]  # the last is the sum of ones: the steps
    silent = _silent(moments, agent.vae.latent_size)
    moments[silent], moments[:, silent] = 0.0, 0.0
    return moments.numpy()


def _batches(files: Sequence[Path], doing: str, display: bool) -> Iterator[list[Rollout]]:
    """Episodes to be watched side by side."""
    for first in tqdm(range(0, len(files), TOGETHER), desc=doing, disable=not display):
        yield [read_rollout(file) for file in files[first : first + TOGETHER]]


def _silent(moments: Tensor, latents: int) -> Tensor:
    """Which of C's inputs are latents that tell nothing, from the mean of x xᵀ; (S + 1,) bool."""
    variances = moments.diagonal() - moments[-1].square()  # the last row holds the means
    silent = variances < TELLING
    silent[latents:] = False
    return silent


def _with_one(states: Tensor) -> Tensor:
    """[inputs, 1]: the bias is the weight of an input that is always 1."""
    return torch.cat([states, torch.ones(len(states), 1, dtype=states.dtype)], dim=1)


@torch.inference_mode()
def _states(agent: Agent, rollouts: Sequence[Rollout]) -> Tensor:
    """What C sees, (steps, S) float64, at every step of some episodes, one after the other."""
    lengths = [len(rollout) for rollout in rollouts]
    z = torch.zeros(max(lengths), len(rollouts), agent.vae.latent_size)
    action = torch.zeros(max(lengths), len(rollouts), agent.action_map.size)
    for row, rollout in enumerate(rollouts):
        z[: len(rollout), row] = encode(agent.vae, rollout.observations, agent.device, agent.amp)[0]
        action[: len(rollout), row] = torch.from_numpy(rollout.actions)
    states = z
    if agent.sees_h:
        z, action = z.to(agent.device), action.to(agent.device)
        hidden = tuple(agent.cell.get_init_hidden(len(rollouts)))  # type: ignore[operator]
        memory = []
        for t in range(len(z)):  # h from before the step, as C sees it
            memory.append(hidden[0])
            hidden = agent.cell.step(action[t], z[t], hidden)  # type: ignore[operator]
        states = torch.cat([z, torch.stack(memory)], dim=-1).cpu()
    return torch.cat([states[:length, row] for row, length in enumerate(lengths)]).double()
