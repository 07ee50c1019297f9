"""The transposed convolution: torch's own is the oracle, forwards and backwards."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wmlib.fast.convolution import UpConv2d

SHAPES = [
    (4, 6, 5, (1, 1)),
    (4, 6, 5, (5, 5)),
    (8, 3, 6, (7, 4)),
    (2, 1, 3, (2, 9)),
    (3, 2, 2, (3, 3)),
]


@pytest.mark.parametrize(("inputs", "outputs", "kernel", "size"), SHAPES)
def test_it_is_torchs_transposed_convolution(
    inputs: int, outputs: int, kernel: int, size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = UpConv2d(inputs, outputs, kernel)
    x = torch.randn(3, inputs, *size, requires_grad=True)
    wanted = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2)
    found = layer(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    towards = torch.randn_like(wanted)
    leaves = (x, layer.weight, layer.bias)
    oracle = torch.autograd.grad(wanted, leaves, towards)
    torch.testing.assert_close(torch.autograd.grad(found, leaves, towards), oracle)


def test_it_has_torchs_weights_and_their_names() -> None:
    torch.manual_seed(0)
    ours = UpConv2d(4, 3, 6).state_dict()
    torch.manual_seed(0)
    torchs = nn.ConvTranspose2d(4, 3, 6, stride=2).state_dict()
    assert list(ours) == list(torchs)
    assert all(torch.equal(ours[key], torchs[key]) for key in ours)


@pytest.mark.parametrize("size", [1, 5])
def test_under_autocast_it_computes_in_bfloat16_and_learns_in_float32(size: int) -> None:
    torch.manual_seed(0)
    layer, x = UpConv2d(8, 4, 5), torch.randn(2, 8, size, size)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    wanted = F.conv_transpose2d(x, layer.weight, layer.bias, stride=2)
    torch.testing.assert_close(y.float(), wanted, rtol=0.05, atol=0.02)
    y.float().sum().backward()
    found = layer.weight.grad
    layer.weight.grad = None
    wanted.sum().backward()
    assert found is not None
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer.weight.grad, rtol=0.05, atol=0.05)


def test_frozen_weights_hand_the_gradient_on() -> None:
    layer = UpConv2d(4, 3, 6).requires_grad_(False)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    layer(x).sum().backward()
    wanted = F.conv2d(torch.ones(2, 3, 14, 14), layer.weight, stride=2)
    torch.testing.assert_close(x.grad, wanted)
