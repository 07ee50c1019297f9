"""M's step for thousands of rows: one product, one sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wmlib.devices import has_bf16
from wmlib.mdrnn import Hidden, MDRNNCell, Prediction

__all__ = ["FusedCell"]


class FusedCell(MDRNNCell):
    """An ``MDRNNCell`` at twice the speed, for acting and dreaming in large batches.

    All four gates come from one product instead of two, and one sigmoid. Products are bfloat16
    where the hardware has units for it; c, and everything that is summed over time, is float32.
    It holds a copy of the weights as they were: train the original.

    Args:
        cell: The cell to copy.
        dtype: Of the products; None is bfloat16 where that is faster, otherwise float32.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, cell: MDRNNCell, dtype: torch.dtype | None = None) -> None:
        super().__init__(cell.latents, cell.actions, cell.hiddens, cell.gaussians, cell.mixture)
        self.load_state_dict(cell.state_dict())
        self.to(cell.gmm_linear.weight.device).requires_grad_(False).eval()
        fast = torch.bfloat16 if has_bf16(self.gmm_linear.weight.device) else torch.float32
        self.dtype = dtype or fast
        weight = torch.cat([self.rnn.weight_ih, self.rnn.weight_hh], dim=1)  # (4H, A + L + H)
        bias = self.rnn.bias_ih + self.rnn.bias_hh
        # tanh(x) = 2 sigmoid(2x) - 1: with the third gate doubled, one sigmoid does for all four.
        for part in (weight, bias):
            part[2 * cell.hiddens : 3 * cell.hiddens] *= 2
        self.register_buffer("weight", weight.to(self.dtype), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.gmm_linear.to(self.dtype)

    def step(self, action: Tensor, latent: Tensor, hidden: Hidden) -> Hidden:
        """Advance (h, c), as ``MDRNNCell.step``."""
        h, c = hidden
        x = torch.cat([action, latent, h], dim=-1).to(self.dtype)
        gates = F.linear(x, self.weight).float().add_(self.bias)
        i, f, g, o = gates.sigmoid_().chunk(4, dim=-1)
        c = f * c + i * (2 * g - 1)
        return o * (2 * torch.sigmoid(2 * c) - 1), c

    def head(self, h: Tensor) -> Prediction:
        """Hidden states (*, H) to mixture, reward and terminal logit."""
        return super().head(h.to(self.dtype))

    def get_init_hidden(self, batch: int) -> Hidden:
        """Zeros (h, c), each (batch, H)."""
        zeros = self.bias.new_zeros(2, batch, self.hiddens)
        return zeros[0], zeros[1]
