"""Frames beside each other, still or moving."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wmlib.pixels import tensor_to_frames
from wmlib.vae import ConvVAE

__all__ = ["Frames", "Picture", "film", "strip", "traversal"]

WIDTH = 640  # CSS pixels; on a phone everything shrinks to about half, and must still be legible
GAP, FONT = 4, 17.0  # pixels
GREY = 128  # between frames, which may be black or white
CARD, CAPTION = (32, 36, 44), (236, 238, 242)  # dark: frames read well on it, on any page


class Picture:
    """Something to look at, with the words for those who cannot; a notebook shows it by itself.

    It is shown as PNG, which comparisons of notebooks leave out: pictures differ in their last bits
    between machines. What it shows can be asserted on what was drawn.

    Attributes:
        alt: What there is to see, in words.
        width: Shown width in CSS pixels; less where the page is narrower.
        role: ``"plot"``, ``"heatmap"``, ``"frames"`` or ``"strip"``; pages in dark mode turn a
            plot's colours over, and on a phone a strip of still frames scrolls.
    """

    role = "frames"

    def __init__(self, alt: str, width: int) -> None:
        if not alt.strip():
            raise ValueError("alt is empty; say in words what there is to see")
        self.alt, self.width = alt, width

    def png(self) -> bytes:
        """The encoded picture; films are animated PNG, which every browser plays."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the PNG."""
        Path(path).write_bytes(self.png())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.alt}>"

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
        data = {"image/png": base64.b64encode(self.png()).decode(), "text/plain": repr(self)}
        said = {"alt": self.alt, "width": self.width, "class": f"wm-{self.role}"}
        return data, {"image/png": said}


class Frames(Picture):
    """Frames under their captions, still or moving.

    Attributes:
        panels: Caption → frames (T, H, W, 3) uint8.
        fps: Frames per second.
        across: Panels side by side; otherwise below each other.
        every: Steps from one frame to the next; where it is not 0, a line below counts them.
    """

    def __init__(
        self,
        panels: dict[str, np.ndarray],
        alt: str,
        fps: float = 25,
        across: bool = True,
        every: int = 0,
    ) -> None:
        shapes = {caption: np.shape(frames) for caption, frames in panels.items()}
        times = {shape[0] for shape in shapes.values() if len(shape) == 4 and shape[3] == 3}
        if len(times) != 1 or any(len(shape) != 4 for shape in shapes.values()):
            raise ValueError(f"panels must be (T, H, W, 3) with one T for all, found {shapes}")
        widths = [shape[2] for shape in shapes.values()]
        fit = WIDTH / (sum(widths) if across else max(widths))
        self.scale = max(1, min(4, math.floor(fit) if times != {1} else math.ceil(fit)))
        self.panels, self.fps, self.across, self.every = panels, fps, across, every
        self.role = "frames" if across else "strip"
        super().__init__(alt, min(WIDTH, self._card(0).shape[1]))

    def _card(self, t: int) -> np.ndarray:
        """All panels at step ``t``, enlarged, with their captions: (H, W, 3)."""
        parts = []
        for caption, frames in self.panels.items():
            part = frames[t].repeat(self.scale, 0).repeat(self.scale, 1)
            if caption:
                size = FONT if self.across else FONT * max(1, part.shape[1] / WIDTH)
                part = np.concatenate([_band(caption, part.shape[1], size), part])
            parts += [part, np.full((len(part), GAP, 3), CARD, np.uint8)] if self.across else [part]
        card = np.concatenate(parts[:-1], axis=1) if self.across else np.concatenate(parts)
        if self.every:
            line = _band(f"step {t * self.every}", card.shape[1], FONT)
            card = np.concatenate([card, line])
        return card

    def png(self) -> bytes:
        """A PNG; of several frames an animated one, in 256 colours chosen for all of them."""
        from PIL import Image

        steps = len(next(iter(self.panels.values())))
        pages = [Image.fromarray(self._card(t)) for t in range(steps)]
        buffer = io.BytesIO()
        if steps == 1:
            pages[0].save(buffer, format="PNG")
            return buffer.getvalue()
        sample = np.concatenate([np.asarray(page) for page in pages[:: max(1, steps // 16)]])
        palette = Image.fromarray(sample).quantize(256, dither=Image.Dither.NONE)
        pages = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
        pages[0].save(
            buffer, format="PNG", save_all=True, append_images=pages[1:],
            duration=1000 / self.fps, loop=0,
        )  # fmt: skip
        return buffer.getvalue()


def _band(text: str, width: int, size: float) -> np.ndarray:
    """A caption as wide as its panel (H, width, 3), smaller where it would not fit."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"  # it has τ and σ
    length, height = ImageFont.truetype(path, size).getlength(text), round(1.7 * size)
    font = ImageFont.truetype(path, min(size, size * (width - 10) / length))
    band = Image.new("RGB", (width, height), CARD)
    ImageDraw.Draw(band).text((5, height // 2), text, font=font, fill=CAPTION, anchor="lm")
    return np.asarray(band)


def film(
    panels: np.ndarray | dict[str, np.ndarray], alt: str, fps: float = 25, every: int = 0
) -> Frames:
    """A film, or several side by side that run in step.

    Args:
        panels: Frames (T, H, W, 3) uint8, or caption → frames.
        alt: What happens in it, in words.
        fps: Frames per second; CarRacing's own pace is 50.
        every: Steps from one frame to the next; given, a line below counts them.
    """
    return Frames(panels if isinstance(panels, dict) else {"": panels}, alt, fps, every=every)


def strip(rows: np.ndarray | dict[str, np.ndarray], alt: str) -> Frames:
    """Frames beside each other, row under captioned row: pictures over their reconstructions, say.

    Args:
        rows: Frames (N, H, W, 3) uint8, or caption → frames, as many in each row.
        alt: What there is to see, in words.
    """
    rows = rows if isinstance(rows, dict) else {"": rows}
    gap = ((0, 0), (0, 0), (1, 1), (0, 0))
    wide = {
        caption: np.concatenate(list(np.pad(frames, gap, constant_values=GREY)), axis=1)[None]
        for caption, frames in rows.items()
    }
    if len({frames.shape for frames in wide.values()}) != 1:
        found = {caption: frames.shape for caption, frames in rows.items()}
        raise ValueError(f"every row must have as many frames of one size, found {found}")
    return Frames(wide, alt, across=False)


@torch.no_grad()
def traversal(
    vae: ConvVAE, z: torch.Tensor, latents: Sequence[int], values: Sequence[float], alt: str
) -> Frames:
    """What V draws as one latent takes other values and the rest stay: a row per latent.

    Args:
        vae: V.
        z: The latents to start from (L,).
        latents: Which ones to vary.
        values: What they are set to.
        alt: What there is to see, in words.
    """
    rows = {}
    for latent in latents:
        varied = z.repeat(len(values), 1)
        varied[:, latent] = torch.tensor(values, dtype=z.dtype)
        caption = f"z {latent} from {values[0]:g} to {values[-1]:g}"
        rows[caption] = tensor_to_frames(vae.decoder(varied))
    return strip(rows, alt)
