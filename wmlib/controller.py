"""C: one linear map, small enough to evolve."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from wmlib.checkpoints import load_weights


class Controller(nn.Module):
    """The linear controller: a = W [z, h] + b, without an activation.

    867 parameters at 32 latents, 256 hidden units and 3 actions. What squashes its outputs into
    the action space is the environment's ``ActionMap``, not a part of C. With ``hidden_size`` 0 it
    sees z alone; with twice M's units it sees h and c, as the paper's C does in Doom.

    Args:
        latent_size: Length L of z.
        hidden_size: How much of M's state it sees: 0, H for h, or 2H for h and c.
        action_size: Number A of outputs.

    Source: Ha & Schmidhuber (2018), section 2.3.
    """

    def __init__(self, latent_size: int, hidden_size: int, action_size: int) -> None:
        super().__init__()
        self.fc = nn.Linear(latent_size + hidden_size, action_size)

    def forward(self, z: Tensor, h: Tensor | None = None) -> Tensor:
        """Outputs (B, A) from ``z`` (B, L) and ``h`` (B, H), or from ``[z, h]`` already joined."""
        outputs: Tensor = self.fc(z if h is None else torch.cat([z, h], dim=-1))  # (B, A)
        return outputs


def flatten_parameters(parameters: Iterable[Tensor]) -> np.ndarray:
    """All parameters as one float64 vector (P,), in the order given.

    >>> len(flatten_parameters(Controller(32, 256, 3).parameters()))
    867
    """
    return nn.utils.parameters_to_vector(parameters).detach().cpu().double().numpy()


def load_parameters(flat: np.ndarray, controller: nn.Module) -> nn.Module:
    """Write a flat vector (P,) into a module, in place; ValueError names lengths that differ."""
    parameters = list(controller.parameters())
    wanted = sum(parameter.numel() for parameter in parameters)
    if np.size(flat) != wanted:
        raise ValueError(f"{np.size(flat)} values for a controller of {wanted} parameters")
    vector = torch.tensor(np.asarray(flat).reshape(-1)).to(parameters[0])  # a copy, not a view
    nn.utils.vector_to_parameters(vector, parameters)
    return controller


def act_batch(controller: nn.Module, flat: Tensor, state: Tensor) -> Tensor:
    """Many controllers at once: outputs (N, A) of each row's parameters (N, P) and input (N, S).

    Of ``controller`` they have the architecture; its own parameters are not used.
    """
    if type(controller) is Controller:
        outputs, inputs = controller.fc.weight.shape
        weight, bias = flat.split([outputs * inputs, outputs], dim=-1)  # (N, A · S), (N, A)
        # For so few outputs a product and a sum are six times as fast as a batch of products.
        summed: Tensor = (weight.view(-1, outputs, inputs) * state.unsqueeze(1)).sum(-1) + bias
        return summed
    named = dict(controller.named_parameters())
    parts = flat.split([parameter.numel() for parameter in named.values()], dim=-1)
    stacked = {
        key: part.view(-1, *parameter.shape)
        for (key, parameter), part in zip(named.items(), parts, strict=True)
    }
    act = torch.func.vmap(lambda own, x: torch.func.functional_call(controller, own, (x,)))
    acted: Tensor = act(stacked, state)
    return acted


def controller_from_state(state: dict[str, Tensor], origin: str = "the state dict") -> Controller:
    """A controller of the sizes that its weights have; ValueError if they are another model's."""
    if "fc.weight" not in state or state["fc.weight"].ndim != 2:
        raise ValueError(f"{origin} holds no controller: fc.weight (A, L + H) is missing")
    actions, inputs = state["fc.weight"].shape
    controller = Controller(inputs, 0, actions)
    load_weights(controller, state, origin)
    return controller.eval()
