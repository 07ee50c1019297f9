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

TOGETHER = 16  # episodes that M remembers side by side
RIDGE = 1.0  # added to the sums of squares, so that inputs that never vary get no weight
TELLING = 0.05  # variance of a latent's mean; of all that V could tell with it, which is 1


def imitate(pupil: Agent, driver: Agent, files: Sequence[Path], display: bool = True) -> np.ndarray:
    """C for new V and M that does what another agent would have done, by least squares.

    A controller belongs to the V and M it was evolved with: other latents have other meanings. But
    both agents can watch the same episodes, and C is linear, so the closest C has a closed form.
    A search that starts there need not learn again what its predecessor knew.

    It is the closest on samples of z, not on their means: V's doubt about a latent adds its
    variance to the latent's own. So a latent that is mostly doubt gets little weight, and what
    drives on means drives on samples, and in a dream, where every z is one.

    Args:
        pupil: V and M, and C's architecture, one linear map.
        driver: Whoever is imitated, with V, M and C of its own; it looks at means.
        files: Rollouts to watch.
        display: Show progress.

    Returns:
        C's flat parameters (P,), as ``load_parameters`` takes them.

    Source: the normal equations of linear regression with noise of known variance on its inputs.
    """
    squares, products = torch.zeros(()), torch.zeros(())
    for rollouts in _batches(files, "imitating", display):
        inputs, doubt = _inputs(pupil, rollouts)
        seen, _ = _inputs(driver, rollouts)
        with torch.inference_mode():
            told = driver.controller(seen[:, :-1].float().to(driver.device)).cpu().double()
        squares = squares + inputs.T @ inputs + torch.diag(doubt.sum(0))
        products = products + inputs.T @ told
    ridge = RIDGE * torch.eye(len(squares), dtype=squares.dtype)
    solution = torch.linalg.solve(squares + ridge, products)  # (S + 1, A)
    return torch.cat([solution[:-1].T.reshape(-1), solution[-1]]).numpy()


def input_moments(agent: Agent, files: Sequence[Path], display: bool = True) -> np.ndarray:
    """How C's inputs vary while others play: the mean of x xᵀ with x = [inputs, 1].

    Args:
        agent: V and M.
        files: Rollouts to watch.
        display: Show progress.

    Returns:
        (S + 1, S + 1) float64, as ``Axes.of`` takes it; zeros where a latent tells nothing: its
        mean varies a little all the same, and a search that walked far along that would find a use
        for it which no sample of the latent bears out.
    """
    squares = torch.zeros(())
    for rollouts in _batches(files, "watching", display):
        inputs, _ = _inputs(agent, rollouts)
        squares = squares + inputs.T @ inputs
    moments = squares / squares[-1, -1]  # the last is the sum of ones: the steps
    silent = moments.diagonal() - moments[-1].square() < TELLING  # the last row holds the means
    silent[agent.vae.latent_size :] = False
    moments[silent], moments[:, silent] = 0.0, 0.0
    return moments.numpy()


def _batches(files: Sequence[Path], doing: str, display: bool) -> Iterator[list[Rollout]]:
    """Episodes to be watched side by side."""
    for first in tqdm(range(0, len(files), TOGETHER), desc=doing, disable=not display):
        yield [read_rollout(file) for file in files[first : first + TOGETHER]]


@torch.inference_mode()
def _inputs(agent: Agent, rollouts: Sequence[Rollout]) -> tuple[Tensor, Tensor]:
    """[what C sees, 1] at every step of some episodes, one after the other, with mu for z.

    The bias is the weight of the input that is always 1.

    Returns:
        The inputs and the variances of z around them, 0 for all that is not z; (steps, S + 1)
        float64 each.
    """
    lengths = [len(rollout) for rollout in rollouts]
    parts = [encode(agent.vae, rollout.observations, agent.device) for rollout in rollouts]
    z = torch.nn.utils.rnn.pad_sequence([mu for mu, _ in parts]).to(agent.device)  # (T, B, L)
    actions = [torch.from_numpy(rollout.actions) for rollout in rollouts]
    action = torch.nn.utils.rnn.pad_sequence(actions).to(agent.device)
    states = [z]
    if agent.sees:
        hidden = tuple(agent.cell.get_init_hidden(len(rollouts)))  # type: ignore[operator]
        memory = []
        for t in range(len(z)):  # from before the step, as C sees it
            memory.append(torch.cat(hidden[: agent.sees], dim=-1))
            hidden = agent.cell.step(action[t], z[t], hidden)  # type: ignore[operator]
        states.append(torch.stack(memory))
    states.append(torch.ones(*z.shape[:2], 1, device=z.device))
    seen = torch.cat(states, dim=-1).cpu().double()  # (T, B, S + 1)
    inputs = torch.cat([seen[:length, row] for row, length in enumerate(lengths)])
    doubt = torch.zeros_like(inputs)
    doubt[:, : z.shape[-1]] = torch.cat([logsigma for _, logsigma in parts]).double().mul(2).exp()
    return inputs, doubt
