"""A transposed convolution, computed as the plain one that it is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["UpConv2d"]


class UpConv2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` with stride 2: the same numbers, forwards up to four times as fast.

    On a CPU only, where the library's own takes a third of V's training time, most of it in two
    layers forwards. Backwards the library is fast, and is used. ``quicken`` makes a decoder's
    layers such ones.
    """

    @staticmethod
    def can_be(layer: nn.ConvTranspose2d) -> bool:
        """Whether a layer's numbers can be had this way."""
        square = layer.kernel_size[0] == layer.kernel_size[1]
        plain = layer.padding == (0, 0) and layer.output_padding == (0, 0) and layer.groups == 1
        twice = layer.stride == (2, 2) and layer.dilation == (1, 1)
        return square and plain and twice and layer.bias is not None

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, 2·(H - 1) + k, 2·(W - 1) + k)."""
        if not x.is_cpu:
            return super().forward(x, output_size)
        mixed = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if mixed else x.dtype
        assert self.bias is not None
        x, weight, bias = (part.to(dtype) for part in (x, self.weight, self.bias))
        if x.shape[2:] == (1, 1):  # every output pixel has one input: a matrix product
            y = (x.flatten(1) @ weight.flatten(1)).view(-1, *weight.shape[1:])
            return y + bias[:, None, None]
        return _UpConv.apply(x, weight, bias)  # type: ignore[no-any-return, no-untyped-call]


class _UpConv(torch.autograd.Function):
    """Forwards a convolution to four times the channels, which are the four pixels of a square.

    Along one axis, ``y[2q + p] = sum_j x[q - j] w[2j + p]``: for each parity p a convolution with
    every second tap of w.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        inputs, outputs, k, _ = weight.shape
        taps, odd = (k + 1) // 2, k % 2
        kernel = F.pad(weight, (0, odd, 0, odd)).view(inputs, outputs, taps, 2, taps, 2)
        kernel = kernel.flip(2, 4).permute(3, 5, 1, 0, 2, 4)  # (2, 2, O, I, taps, taps)
        y: Tensor = F.conv2d(x, kernel.flatten(0, 2), bias.repeat(4), padding=taps - 1)
        y = y.movedim(1, -1).unflatten(-1, (2, 2, outputs))  # (B, Q, Q, 2, 2, O)
        y = y.transpose(2, 3).flatten(3, 4).flatten(1, 2)  # (B, 2Q, 2Q, O)
        rows, columns = y.shape[1] - odd, y.shape[2] - odd
        return y[:, :rows, :columns].contiguous().movedim(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        sizes = ([weight.shape[1]], [2, 2], [0, 0], [1, 1], True, [0, 0], 1)
        wanted = list(ctx.needs_input_grad)
        backward = torch.ops.aten.convolution_backward
        gradients: tuple[Tensor, Tensor, Tensor] = backward(gradient, x, weight, *sizes, wanted)
        return gradients
