"""C: one linear map, small enough to evolve."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["ActionMap", "Controller", "act_batch", "flatten_parameters", "load_parameters"]


class Controller(nn.Module):
    """The linear controller: ``fc([z, h])``, without an activation.

    867 parameters at 32 latents, 256 hidden units and 3 actions. What squashes its outputs into
    the action space is the environment's ``ActionMap``, not a part of C.

    Args:
        latent_size: Length L of z.
        hidden_size: Length H of h.
        action_size: Number A of outputs.

    Source: Ha & Schmidhuber (2018), section 2.3.
    """

    def __init__(self, latent_size: int, hidden_size: int, action_size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(latent_size + hidden_size, action_size)

    def forward(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """Outputs (B, A) from ``z`` (B, L) and ``h`` (B, H), or from ``[z, h]`` already joined."""
        outputs: Tensor = self.fc(z if h is None else torch.cat([z, h], dim=-1))
        return outputs


def flatten_parameters(parameters: Iterable[Tensor]) -> np.ndarray:
    """All parameters as one float64 vector (P,), in the order given."""
    flat = [parameter.detach().cpu().double().reshape(-1) for parameter in parameters]
    return torch.cat(flat).numpy()


def load_parameters(flat: np.ndarray, controller: nn.Module) -> nn.Module:
    """Write a flat vector (P,) into a module, in place.

    Raises:
        ValueError: If the lengths differ; names both.
    """
    parameters = list(controller.parameters())
    wanted = sum(parameter.numel() for parameter in parameters)
    if np.size(flat) != wanted:
        raise ValueError(f"{np.size(flat)} values for a controller of {wanted} parameters")
    rest = torch.as_tensor(np.asarray(flat).reshape(-1))
    with torch.no_grad():
        for parameter in parameters:
            head, rest = rest[: parameter.numel()], rest[parameter.numel() :]
            parameter.copy_(head.view_as(parameter))
    return controller


def act_batch(controller: nn.Module, flat: Tensor, state: Tensor) -> Tensor:
    """Many controllers at once, one per row: outputs (N, A).

    Args:
        controller: The architecture; its own parameters are not used.
        flat: Each row's parameters (N, P).
        state: Each row's input (N, S).
    """
    if type(controller) is Controller:
        outputs, inputs = controller.fc.weight.shape
        weight, bias = flat.split([outputs * inputs, outputs], dim=-1)
        # For so few outputs a product and a sum are six times as fast as a batch of products.
        summed: Tensor = (weight.view(-1, outputs, inputs) * state.unsqueeze(1)).sum(-1) + bias
        return summed
    named = dict(controller.named_parameters())
    parts = flat.split([parameter.numel() for parameter in named.values()], dim=-1)
    stacked = {
        key: part.view(-1, *parameter.shape)
        for (key, parameter), part in zip(named.items(), parts, strict=True)
    }

    def one(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(controller, parameters, (x,))
        return output

    return torch.func.vmap(one)(stacked, state)


class ActionMap:
    """From C's free outputs to what the environment executes, which is what M is told.

    The one map per action space (Box, Discrete):

    - CarRacing (a box from [-1, 0, 0] to [1, 1, 1]): steering tanh, gas sigmoid, brake
      clip(tanh, 0, 1). Zero output is half throttle and no brake: a car that moves.
    - a bounded box of whole numbers: tanh, each number with an equal share of its range; zero
      output is the middle one.
    - any other bounded box: tanh, stretched to the box's own bounds; unbounded sides stay as
      they are.
    - discrete: the largest output wins; M is told one-hot.

    Args:
        space: The action space of a single environment.

    Attributes:
        size: Number A of C's outputs, and the length of the action M is told.
        is_car: Whether this is CarRacing's box.
        is_bounded: Whether this is a box with all its sides bounded.
        is_whole: Whether this is such a box of whole numbers.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        self.space = space
        self.is_car = self.is_bounded = self.is_whole = False
        if isinstance(space, gym.spaces.Discrete):
            self.size = int(space.n)
        elif isinstance(space, gym.spaces.Box):
            self.size = int(np.prod(space.shape))
            self.low = torch.as_tensor(space.low.reshape(-1), dtype=torch.float32)
            self.high = torch.as_tensor(space.high.reshape(-1), dtype=torch.float32)
            self.is_car = self.low.tolist() == [-1, 0, 0] and self.high.tolist() == [1, 1, 1]
            self.is_bounded = bool(torch.isfinite(self.low).all() & torch.isfinite(self.high).all())
            self.is_whole = self.is_bounded and np.issubdtype(space.dtype, np.integer)
        else:
            raise ValueError(
                f"action space {space} is not supported: Box and Discrete are; "
                "wrap the environment so that it has one of them"
            )

    def __call__(self, outputs: Tensor) -> Tensor:
        """Map outputs (B, A) to told actions (B, A): executed values, or one-hot."""
        if isinstance(self.space, gym.spaces.Discrete):
            return nn.functional.one_hot(outputs.argmax(-1), self.size).to(outputs.dtype)
        if self.is_car:
            steer, gas, brake = outputs.unbind(-1)
            return torch.stack([steer.tanh(), gas.sigmoid(), brake.tanh().clamp(0, 1)], dim=-1)
        if not self.is_bounded:
            return outputs.clamp(self.low.to(outputs), self.high.to(outputs))
        low, high = self.low.to(outputs), self.high.to(outputs)
        share = (outputs.tanh() + 1) / 2
        if self.is_whole:
            return low + (share * (high - low + 1)).floor().clamp(max=high - low)
        return low + (high - low) * share

    def to_env(self, told: np.ndarray) -> np.ndarray:
        """Told actions (B, A) float32 as the environment takes them: (B, *shape) or (B,) int64."""
        if isinstance(self.space, gym.spaces.Discrete):
            index: np.ndarray = np.asarray(told).argmax(-1) + int(self.space.start)
            return index
        assert isinstance(self.space, gym.spaces.Box)
        values: np.ndarray = np.asarray(told, dtype=self.space.dtype)
        return values.reshape(-1, *self.space.shape)

    def from_env(self, actions: np.ndarray) -> np.ndarray:
        """What the environment takes, (B, …), as told actions (B, A) float32."""
        if isinstance(self.space, gym.spaces.Discrete):
            index = np.asarray(actions, dtype=np.int64).reshape(-1) - int(self.space.start)
            return np.eye(self.size, dtype=np.float32)[index]
        assert isinstance(self.space, gym.spaces.Box)
        values = np.asarray(actions, dtype=np.float32)
        clipped = values.clip(self.space.low, self.space.high)  # as the environment would
        return clipped.reshape(-1, self.size)
