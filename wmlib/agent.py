"""V, M and C acting together, a whole batch at once."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from wmlib.controller import Controller, act_batch
from wmlib.devices import autocast, choose_device
from wmlib.envs import ActionMap
from wmlib.pixels import frames_to_tensor
from wmlib.vae import sample_latent

CHUNK = 64  # steps of noise drawn at once


class Noise:
    """A stream of noise for each seed, so that no row depends on its neighbours or on the batch.

    Args:
        seeds: Of the streams (N,).
        device: Where the draws are wanted.
        sizes: What a step draws: names of numpy's distributions, and how many numbers of each.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device, **sizes: int) -> None:
        self.streams = [np.random.default_rng(int(seed)) for seed in seeds]
        self.device, self.sizes, self.t = device, sizes, 0

    def draw(self, rows: Tensor) -> list[Tensor]:
        """This step's draws (n, size) of the streams ``rows`` (n,), one tensor for each size."""
        if self.t % CHUNK == 0:
            drawn = [
                np.stack([getattr(r, kind)((CHUNK, size), dtype=np.float32) for r in self.streams])
                for kind, size in self.sizes.items()
            ]
            self.ready = [torch.from_numpy(part).to(self.device) for part in drawn]
        self.t += 1
        return [part[rows, (self.t - 1) % CHUNK] for part in self.ready]


class Agent:
    """The whole agent, for one episode or for many side by side.

    V and M exist once, (h, c) once per episode, and a stream of ``Noise``. Each episode may have a
    controller of its own (``assign``): that is how a population is evaluated in one batch.

    Args:
        vae: V; its ``encoder(x)`` gives ``(mu, logsigma)``.
        cell: M, one step at a time: ``get_init_hidden(batch)`` and ``step(action, z, hidden)``.
        controller: C, from [z, h]; from z alone, or [z, h, c], if its inputs are as many.
        space: The action space of a single environment.
        device: Where to compute; the models are moved there.
        sample_z: Act on a sample of z, as the paper does, instead of on its mean.

    Raises:
        ValueError: If the sizes of V, M, C and the action space do not fit together.

    Source: Ha & Schmidhuber (2018), section 2.4.
    """

    def __init__(
        self,
        vae: nn.Module,
        cell: nn.Module,
        controller: nn.Module,
        space: gym.Space[Any],
        device: str = "cuda",
        sample_z: bool = False,
    ) -> None:
        self.device = choose_device(device)
        self.vae = vae.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.cell, self.controller = cell.to(self.device).eval(), controller.to(self.device).eval()
        self.action_map, self.sample_z = ActionMap(space), sample_z
        # Of h and c, how many C is shown.
        self.sees = self._check_sizes(controller) if isinstance(controller, Controller) else 1
        self.parameters: Tensor | None = None
        self.noise: Noise | None = None

    def _check_sizes(self, controller: Controller) -> int:
        """How many of h and c a linear C sees; every other size must fit."""
        actions = self.action_map.size
        pairs = {
            "C's outputs and the action space": (controller.fc.out_features, actions),
            "M's actions and the action space": (getattr(self.cell, "actions", actions), actions),
        }
        sees = 1
        if hasattr(self.vae, "latent_size") and hasattr(self.cell, "hiddens"):
            latents: Any = self.vae.latent_size
            inputs, hiddens = controller.fc.in_features, self.cell.hiddens
            sees = min(max(inputs - latents, 0) // hiddens, 2)
            pairs["M's latents and V's"] = (self.cell.latents, latents)
            pairs["C's inputs and [z, h]"] = (inputs, latents + sees * hiddens)
        for what, (found, wanted) in pairs.items():
            if found != wanted:
                raise ValueError(f"{what} differ: {found} and {wanted}; train them together")
        return sees

    def assign(self, parameters: np.ndarray | None) -> None:
        """Give each episode to come its own flat parameters, a row of (N, P); None for C itself."""
        self.parameters = None
        if parameters is not None:
            self.parameters = torch.as_tensor(parameters, dtype=torch.float32, device=self.device)

    def start(self, seeds: Sequence[int]) -> None:
        """Begin ``len(seeds)`` episodes: (h, c) is reset, each seed begins a stream of noise."""
        self.hidden = tuple(self.cell.get_init_hidden(len(seeds)))  # type: ignore[operator]
        self.seeds, self.noise = seeds, None

    def decide(self, z: Tensor, hidden: Sequence[Tensor], flat: Tensor | None = None) -> Tensor:
        """C's decision: told actions (n, A), for z (n, L) and M's (h, c), each (n, H).

        ``flat`` (n, P) are each row's own parameters; C's by default.
        """
        state = torch.cat([z, *hidden[: self.sees]], dim=-1)  # (n, L), (n, L + H) or (n, L + 2H)
        own = self.controller(state) if flat is None else act_batch(self.controller, flat, state)
        return self.action_map(own)  # (n, A)

    @torch.inference_mode()
    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Told actions (n, A) float32 for frames (n, 64, 64, 3) of the episodes ``rows``.

        (h, c) of those rows moves on by the step; the latest ``z`` and ``mu`` can be read.
        """
        index = torch.as_tensor(rows, device=self.device)  # (n,)
        hidden = tuple(part[index] for part in self.hidden)  # (n, H) each
        z = self._see(frames, index)  # (n, L)
        flat = None if self.parameters is None else self.parameters[index]  # (n, P)
        action = self.decide(z, hidden, flat)  # (n, A)
        if self.sees:  # otherwise nobody asks what M remembers
            moved = self.cell.step(action, z, hidden)  # type: ignore[operator]
            for part, new in zip(self.hidden, moved, strict=True):
                part[index] = new
        return action.cpu().numpy()

    def __call__(self, frame: np.ndarray) -> Any:
        """The environment's action for one frame (64, 64, 3) of a single episode."""
        return self.action_map.to_env(self.act(frame[None], np.zeros(1, dtype=np.int64)))[0]

    def _see(self, frames: np.ndarray, index: Tensor) -> Tensor:
        """z (n, L): the mean of q(z | x), or a sample of it."""
        x = frames_to_tensor(torch.from_numpy(frames).to(self.device))  # (n, 3, 64, 64)
        with autocast(self.device):
            mu, logsigma = self.vae.encoder(x)
        self.mu: Tensor = mu.float()  # (n, L)
        self.z: Tensor = self.mu
        if self.sample_z:
            if self.noise is None:
                self.noise = Noise(self.seeds, self.device, standard_normal=self.mu.shape[-1])
            self.z = sample_latent(self.mu, logsigma.float(), *self.noise.draw(index))
        return self.z
