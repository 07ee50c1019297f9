"""V, M and C acting together, a whole batch at once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from wmlib.controller import ActionMap, Controller, act_batch
from wmlib.devices import autocast, choose_device
from wmlib.pixels import frames_to_tensor

__all__ = ["Agent"]

CHUNK = 64  # steps of noise drawn at once


class Agent:
    """The whole agent, for one episode or for many side by side.

    V and M exist once, (h, c) once per episode. Each episode may have a controller of its own
    (``assign``), which is how a whole population is evaluated in one batch; and each has its own
    stream of noise, so that what a row does depends neither on its neighbours nor on the batch.

    Args:
        vae: V; its ``encoder(x)`` gives ``(mu, logsigma)``.
        cell: M, one step at a time: ``get_init_hidden(batch)`` and ``step(action, z, hidden)``.
        controller: C, from [z, h], from [z, h, c] if it takes so many inputs, or from z alone.
        space: The action space of a single environment.
        device: Where to compute.
        sample_z: Act on a sample of z, as the paper does, instead of on its mean.
        amp: bf16 products where the hardware has them.

    Raises:
        ValueError: If the sizes of V, M, C and the action space do not fit together.
    """

    def __init__(
        self,
        vae: nn.Module,
        cell: nn.Module,
        controller: nn.Module,
        space: gym.Space[Any],
        device: str = "cuda",
        sample_z: bool = False,
        amp: bool = True,
    ) -> None:
        self.device, self.amp = choose_device(device), amp
        self.vae = vae.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.cell, self.controller = cell.to(self.device).eval(), controller.to(self.device).eval()
        self.action_map, self.sample_z = ActionMap(space), sample_z
        self.sees_h, self.sees_c = True, False
        if isinstance(controller, Controller):
            seen = controller.fc.in_features - getattr(vae, "latent_size", 0)
            memory: Any = getattr(cell, "hiddens", 0)
            self.sees_h, self.sees_c = seen != 0, 0 < seen == 2 * memory
            self._check_sizes(controller)
        self.parameters: Tensor | None = None

    def _check_sizes(self, controller: Controller) -> None:
        actions = self.action_map.size
        pairs = {
            "C's outputs and the action space": (controller.fc.out_features, actions),
            "M's actions and the action space": (getattr(self.cell, "actions", actions), actions),
        }
        if hasattr(self.vae, "latent_size") and hasattr(self.cell, "hiddens"):
            latents: Any = self.vae.latent_size
            hiddens: Any = self.cell.hiddens
            seen = latents + (self.sees_h + self.sees_c) * hiddens
            pairs["C's inputs and [z, h]"] = (controller.fc.in_features, seen)
            pairs["M's latents and V's"] = (self.cell.latents, latents)
        for what, (found, wanted) in pairs.items():
            if found != wanted:
                raise ValueError(f"{what} differ: {found} and {wanted}; train them together")

    def on(self, device: str) -> Agent:
        """A copy of the agent on another device, with no episodes begun."""
        vae, cell, controller = copy.deepcopy((self.vae, self.cell, self.controller))
        space = self.action_map.space
        return Agent(vae, cell, controller, space, device, self.sample_z, self.amp)

    def assign(self, parameters: np.ndarray | None) -> None:
        """Give each episode to come a controller of its own.

        Args:
            parameters: Flat parameters (N, P), a row per episode; None for C itself.
        """
        self.parameters = None
        if parameters is not None:
            self.parameters = torch.as_tensor(parameters, dtype=torch.float32, device=self.device)

    def start(self, seeds: Sequence[int]) -> None:
        """Begin ``len(seeds)`` episodes: (h, c) is reset, each seed begins a stream of noise."""
        self.hidden = tuple(self.cell.get_init_hidden(len(seeds)))  # type: ignore[operator]
        self.noise = [np.random.default_rng(seed) for seed in seeds] if self.sample_z else []
        self.t = 0

    @torch.inference_mode()
    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Told actions (n, A) float32 for frames (n, 64, 64, 3) of the episodes ``rows``.

        (h, c) of those rows moves on by the step; the latest ``z`` and ``mu`` can be read.
        """
        index = torch.as_tensor(rows, device=self.device)
        hidden = tuple(part[index] for part in self.hidden)
        z = self._see(frames, rows)
        state = self.state(z, hidden)
        if self.parameters is None:
            outputs = self.controller(state)
        else:
            outputs = act_batch(self.controller, self.parameters[index], state)
        action = self.action_map(outputs)
        if self.sees_h:
            moved = self.cell.step(action, z, hidden)  # type: ignore[operator]
            for part, new in zip(self.hidden, moved, strict=True):
                part[index] = new
        self.t += 1
        return action.cpu().numpy()

    def state(self, z: Tensor, hidden: tuple[Tensor, ...]) -> Tensor:
        """What C sees (n, S) of z (n, L) and M's (h, c): [z], [z, h] or [z, h, c]."""
        return torch.cat([z, *hidden[: self.sees_h + self.sees_c]], dim=-1)

    def __call__(self, frame: np.ndarray) -> Any:
        """The environment's action for one frame (64, 64, 3) of a single episode."""
        told = self.act(frame[None], np.zeros(1, dtype=np.int64))
        return self.action_map.to_env(told)[0]

    def _see(self, frames: np.ndarray, rows: np.ndarray) -> Tensor:
        """z (n, L): the mean of q(z | x), or a sample of it."""
        x = frames_to_tensor(torch.from_numpy(frames).to(self.device))
        with autocast(self.device, self.amp):
            mu, logsigma = self.vae.encoder(x)
        self.mu: Tensor = mu.float()
        self.z: Tensor = self.mu
        if self.sample_z:
            if self.t % CHUNK == 0:
                shape = (CHUNK, self.mu.shape[-1])
                drawn = [rng.standard_normal(shape, dtype=np.float32) for rng in self.noise]
                self.drawn = torch.from_numpy(np.stack(drawn)).to(self.device)
            noise = self.drawn[torch.as_tensor(rows, device=self.device), self.t % CHUNK]
            self.z = self.mu + logsigma.float().exp() * noise
        return self.z
