"""V and M, computed sooner."""

from __future__ import annotations

from typing import TypeVar, cast

from torch import nn

from wmlib.fast.cell import FusedCell
from wmlib.fast.convolution import UpConv2d
from wmlib.mdrnn import MDRNNCell

__all__ = ["quicken"]

Model = TypeVar("Model", bound=nn.Module)


def quicken(model: Model) -> Model:
    """The same model for large batches.

    M's cell becomes a ``FusedCell``, which holds a copy of the weights as they are. In any other
    model, transposed convolutions of stride 2 are computed as ``UpConv2d`` from now on: the same
    layers with the same parameters, changed in place.
    """
    if isinstance(model, MDRNNCell):
        plain = isinstance(model.rnn, nn.LSTMCell)  # other kinds step themselves
        return cast("Model", FusedCell(model)) if plain else model
    for layer in model.modules():
        if type(layer) is nn.ConvTranspose2d and UpConv2d.can_be(layer):
            layer.__class__ = UpConv2d
    return model
