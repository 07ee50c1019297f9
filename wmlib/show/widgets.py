"""Where people would rather look than read: sliders and dreams that need no kernel."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
import traitlets
from safetensors.numpy import load

from wmlib.mixture import gmm_loss
from wmlib.pixels import tensor_to_frames
from wmlib.show.pages import PREFIXES, Numbers, PageWidget, asset, encode_png, esm
from wmlib.vae import ConvVAE

__all__ = [
    "CMAExplorer",
    "DoomDreamPlayer",
    "DreamPlayer",
    "LatentExplorer",
    "MixturePlayground",
    "RealVsDream",
    "latent_sliders",
]

PLAYER = ("nets", "games", "dream_player")  # the sources of the players


@functools.cache
def _shipped(game: str) -> dict[str, np.ndarray]:
    """Tensors of a game's shipped ``real`` asset."""
    return load(asset(f"{PREFIXES[game]}real"))


class Recorded(PageWidget):
    """A widget that begins in recorded frames, of the shipped models or of one's own.

    Args:
        folder: See ``PageWidget``.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        self._real = load(asset("real", folder)) if folder else _shipped(self.game)
        super().__init__(folder, **kwargs)

    def _start_z(self, start: int) -> list[float]:
        """z (L,) of a start frame."""
        count = len(self._real["start_z"])
        if not 0 <= start < count:
            raise traitlets.TraitError(f"there are {count} start frames, from 0 on; found {start}")
        return list(self._real["start_z"][start].tolist())


class LatentExplorer(Recorded):
    """A slider for every latent, and the frame that V draws from them, as they move.

    Example:
        >>> w = LatentExplorer()
        >>> w.z = [0.0] * 32  # the middle of the prior

    Args:
        folder: See ``PageWidget``.

    Attributes:
        z: The latents (L,), read and set; the page and Python share them.
        start: Which recorded real frame to start from; setting it sets ``z``.
        latent: The latent whose traversal the strip shows.
        names: The reader's own names for latents, ``{"7": "curve"}``.
    """

    _esm = esm("nets", "latent_explorer")
    _alt = traitlets.Unicode("sliders for the latents of V, and the frame it draws").tag(sync=True)
    z = Numbers().tag(sync=True)
    start = traitlets.Int(0).tag(sync=True)
    latent = traitlets.Int().tag(sync=True)
    names = traitlets.Dict().tag(sync=True)

    @traitlets.default("z")
    def _begin_z(self) -> list[float]:
        return self._start_z(self.start)

    @traitlets.default("latent")
    def _most_informative(self) -> int:
        return int(self._real["kl"].argmax())

    @traitlets.validate("z")
    def _check_z(self, proposal: dict[str, Any]) -> list[float]:
        wanted, found = self._real["start_z"].shape[1], len(proposal["value"])
        if found != wanted:
            raise traitlets.TraitError(f"z has {wanted} numbers in this model, found {found}")
        return list(proposal["value"])

    @traitlets.observe("start")
    def _begin(self, change: dict[str, Any]) -> None:
        self.z = self._start_z(change["new"])


class DreamPlayer(Recorded):
    """The reader drives inside M: arrow keys, buttons or touch, or C takes the wheel.

    Args:
        folder: See ``PageWidget``; models of a game that is steered as CarRacing is.

    Attributes:
        tau: Temperature τ of the dream.
        start: Which recorded real frame the dream starts from.
        seed: The dream's luck; the same seed and actions give the same dream.
        controller_drives: Whether C steers.
        compact: Only the picture and its controls; it plays by itself while it is in sight.
        z: Where the dream stands (L,), whenever it is paused.
    """

    _esm = esm(*PLAYER)
    _alt = traitlets.Unicode("a car that is steered through a dream of M").tag(sync=True)
    steered: tuple[str, ...] = ("wheel", "gas", "brake")  # what an action's numbers are
    tau = traitlets.Float(1.0, min=0.05, max=1.5).tag(sync=True)
    start = traitlets.Int(0).tag(sync=True)
    seed = traitlets.Int(1).tag(sync=True)
    controller_drives = traitlets.Bool(False).tag(sync=True)
    compact = traitlets.Bool(False).tag(sync=True)
    z = Numbers().tag(sync=True)

    def __init__(self, folder: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        super().__init__(folder, **kwargs)
        if (found := self._real["actions"].shape[1]) != len(self.steered):
            raise ValueError(
                f"{type(self).__name__} gives {len(self.steered)} numbers "
                f"({', '.join(self.steered)}), an action in {folder} has {found}: look at these "
                "models with LatentExplorer and RealVsDream"
            )

    @traitlets.default("z")
    def _begin_z(self) -> list[float]:
        return self._start_z(self.start)

    @traitlets.validate("start")
    def _check_start(self, proposal: dict[str, Any]) -> int:
        self._start_z(proposal["value"])
        return int(proposal["value"])


class DoomDreamPlayer(DreamPlayer):
    """``DreamPlayer`` in Doom's TakeCover: two keys, and P(death) as a line.

    The dream ends where M gives the end one half or more, or after 2,100 tics.
    """

    _alt = traitlets.Unicode("a walk from side to side in a room of Doom that M dreams").tag(
        sync=True
    )
    game = traitlets.Unicode("takecover", read_only=True).tag(sync=True)
    steered = ("walk",)


class RealVsDream(Recorded):
    """A recorded real episode beside the dream that is fed the same actions.

    Args:
        folder: See ``PageWidget``.

    Attributes:
        t: The step that is shown.
        begin: The step from which M dreams on its own.
        tau: Temperature τ of the dream.
        seed: The dream's luck.
        watching: M sees every real frame and guesses only the next one.
    """

    _esm = esm("nets", "real_vs_dream")
    _alt = traitlets.Unicode("a real episode beside the dream of the same actions").tag(sync=True)
    t = traitlets.Int(60, min=0).tag(sync=True)
    begin = traitlets.Int(60, min=0).tag(sync=True)
    tau = traitlets.Float(0.5, min=0.05, max=1.5).tag(sync=True)
    seed = traitlets.Int(1).tag(sync=True)
    watching = traitlets.Bool(False).tag(sync=True)

    @traitlets.validate("t", "begin")
    def _check_time(self, proposal: dict[str, Any]) -> int:
        steps = len(self._real["actions"])
        if proposal["value"] >= steps:
            raise traitlets.TraitError(f"the episode has {steps} steps, found {proposal['value']}")
        return int(proposal["value"])


class MixturePlayground(PageWidget):
    """A mixture of Gaussians to drag over one-dimensional data, with its surprise in nats.

    Attributes:
        mus: Means (K,).
        sigmas: Standard deviations (K,).
        weights: Mixture weights (K,), positive; only their proportions count.
        data: The points (N,) to explain.
        seed: Luck of the samples.
        nll: Mean negative log-likelihood of the data in nats, by ``gmm_loss``.
    """

    _esm = esm("mixture_playground")
    _alt = traitlets.Unicode("a mixture of Gaussians over data, and its NLL").tag(sync=True)
    mus = Numbers(default_value=[-1.0, 1.0]).tag(sync=True)
    sigmas = Numbers(default_value=[1.0, 1.0]).tag(sync=True)
    weights = Numbers(default_value=[0.5, 0.5]).tag(sync=True)
    data = Numbers().tag(sync=True)
    seed = traitlets.Int(1).tag(sync=True)

    @traitlets.default("data")
    def _fork(self) -> list[float]:
        """Where the road goes left or right, and never straight on."""
        rng = np.random.default_rng(7)
        left, right = rng.normal(-2.2, 0.45, 36), rng.normal(1.9, 0.7, 24)
        return [round(float(x), 3) for x in np.concatenate([left, right])]

    @property
    def nll(self) -> float:
        mus, sigmas, weights, data = (
            torch.tensor(values, dtype=torch.float64)
            for values in (self.mus, self.sigmas, self.weights, self.data)
        )
        logpi = (weights / weights.sum()).log()
        return float(gmm_loss(data[:, None], mus[:, None], sigmas[:, None], logpi))


class CMAExplorer(PageWidget):
    """CMA-ES on a landscape of two parameters, generation by generation.

    Attributes:
        landscape: "bowl", "ridge", "banana" or "ripples"; the best cost is 0.
        sigma0: Initial step size σ₀.
        popsize: Population λ.
        start: Where the search starts (2,).
        seed: The search's luck.
        mean: Where the search stands (2,).
    """

    _esm = esm("cma_explorer")
    _alt = traitlets.Unicode("CMA-ES searching a landscape of two parameters").tag(sync=True)
    landscape = traitlets.Enum(("bowl", "ridge", "banana", "ripples"), "banana").tag(sync=True)
    sigma0 = traitlets.Float(0.5, min=0.05, max=2).tag(sync=True)
    popsize = traitlets.Int(12, min=4, max=64).tag(sync=True)
    start = Numbers(2, default_value=[-2.5, 2.5]).tag(sync=True)
    seed = traitlets.Int(1).tag(sync=True)
    mean = Numbers(2, default_value=[-2.5, 2.5]).tag(sync=True)


def latent_sliders(vae: ConvVAE, z: Sequence[float] | None = None) -> ipywidgets.Widget:
    """Plain ipywidgets: a slider per latent, decoded by PyTorch in the kernel.

    Unlike ``LatentExplorer`` it needs a kernel, and works with any V.

    Args:
        vae: The model.
        z: Where the sliders start (L,); zeros, the middle of the prior, if left out.
    """
    values = np.zeros(vae.latent_size) if z is None else np.asarray(z, dtype=float)
    sliders = [
        ipywidgets.FloatSlider(value, min=-4, max=4, step=0.05, description=f"z {i}")
        for i, value in enumerate(values.tolist())
    ]
    size = ipywidgets.Layout(width="192px", height="192px", flex="0 0 auto")
    picture = ipywidgets.Image(format="png", layout=size)

    def redraw(_: Any = None) -> None:
        with torch.no_grad():
            frame = tensor_to_frames(vae.decoder(torch.tensor([[s.value for s in sliders]])))[0]
        picture.value = encode_png(frame)

    for slider in sliders:
        slider.observe(redraw, "value")
    redraw()
    columns = ipywidgets.Layout(
        grid_template_columns="repeat(auto-fit, minmax(270px, 1fr))", flex="1 1 270px"
    )
    beside = ipywidgets.Layout(align_items="flex-start", flex_flow="row wrap")
    return ipywidgets.HBox([picture, ipywidgets.GridBox(sliders, layout=columns)], layout=beside)
