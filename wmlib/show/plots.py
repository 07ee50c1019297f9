"""Curves, bars and pictures of what was trained."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wmlib.checkpoints import read_json
from wmlib.show.films import WIDTH, Picture

if TYPE_CHECKING:  # matplotlib is imported where it draws: `import wmlib` stays quick
    import matplotlib.figure

__all__ = ["Plot", "canvas", "evolution_curve", "kl_bars", "read_generations", "read_search"]
__all__ += ["scores", "training_curve"]

SUMMED = ("generation", "seconds", "env_steps")

COLOURS = ("#2b6cb0", "#c2571a", "#2f855a", "#97266d", "#5f56b5")
INK, QUIET = "#24292f", "#6b7280"
CLEAR: dict[str, Any] = {"bbox": {"color": "white", "pad": 1}}  # of lines behind a text
STYLE: dict[Any, Any] = {
    "font.size": 12.5,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.labelcolor": QUIET,
    "axes.edgecolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "lines.linewidth": 2,
    "legend.frameon": False,
}


class Plot(Picture):
    """A matplotlib figure.

    Attributes:
        figure: What was drawn.
        role: ``"heatmap"`` where colours are values (``imshow``): turned over, its bright places
            would be dark. Otherwise ``"plot"``.
    """

    def __init__(self, figure: matplotlib.figure.Figure, alt: str) -> None:
        super().__init__(alt, WIDTH)
        self.figure = figure
        self.role = "heatmap" if any(axes.images for axes in figure.axes) else "plot"
        if "matplotlib.pyplot" in sys.modules:  # pyplot's own figures would be shown twice
            sys.modules["matplotlib.pyplot"].close(figure)

    def png(self) -> bytes:
        """The figure at twice its nominal resolution."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=2 * WIDTH / self.figure.get_figwidth())
        return buffer.getvalue()


@contextmanager
def canvas(
    rows: int = 1, columns: int = 1, height: float = 3.2, **kwargs: Any
) -> Iterator[tuple[matplotlib.figure.Figure, Any]]:
    """A matplotlib figure and its axes in the book's style, to draw on inside a ``with``.

    Example:
        >>> with canvas() as (figure, axes):
        ...     lines = axes.plot([0, 1], [0, 1])
        >>> Plot(figure, "a straight line")
        <Plot: a straight line>

    Args:
        rows, columns: Of axes.
        height: In inches, of 6 in width.
        kwargs: Further arguments of ``Figure.subplots``.
    """
    import matplotlib
    from cycler import cycler
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE | {"axes.prop_cycle": cycler(color=COLOURS)}):
        figure = Figure(figsize=(6, height), layout="constrained")
        yield figure, figure.subplots(rows, columns, **kwargs)


def training_curve(
    epochs: Sequence[dict[str, float]], alt: str, value: str = "loss", unit: str = ""
) -> Plot:
    """A loss over the epochs, training and held out.

    Args:
        epochs: The history of ``train_convae`` or ``train_mdn_rnn``; on disk, ``"epochs"`` in
            ``history.json``.
        alt: What there is to see, in words.
        value: Which column; held out, it is called ``test_<value>``.
        unit: Of the values.
    """
    with canvas() as (figure, axes):
        for name, label in ((value, "training"), (f"test_{value}", "held out")):
            points = [(row["epoch"], row[name]) for row in epochs if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label)
        axes.set(xlabel="epoch", ylabel=f"{value} [{unit}]" if unit else value)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
    return Plot(figure, alt)


def read_generations(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The rows of a ``generations.csv``; what a generation did not measure is left out."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def read_search(folder: str | os.PathLike[str]) -> list[dict[str, float]]:
    """The rows of all searches that led to a run's C, each counting on from the one before it.

    Args:
        folder: Of the run, or of its shipped weights. Where C took several searches,
            ``searches.json`` lists their folders, in order; otherwise it is ``ctrl``.
    """
    index = Path(folder) / "searches.json"
    parts = read_json(index) if index.exists() else ["ctrl"]
    rows: list[dict[str, float]] = []
    for part in parts:
        before = rows[-1] if rows else {}
        for row in read_generations(Path(folder) / part / "generations.csv"):
            counted = {key: row[key] + before.get(key, 0.0) for key in SUMMED}
            rows.append(row | counted)
    return rows


def evolution_curve(rows: Sequence[dict[str, float]], alt: str, x: str = "generation") -> Plot:
    """How a search went: each population's mean and best, and the CMA mean on held-out tracks.

    Args:
        rows: What ``train_controller`` returns, or ``read_generations``.
        alt: What there is to see, in words.
        x: ``"generation"``, ``"env_steps"`` or ``"seconds"``.
    """
    labels = {"mean": "population mean", "best": "its best", "cma_mean": "CMA mean, held out"}
    looks: dict[str, dict[str, Any]] = {"best": {"alpha": 0.7}, "cma_mean": {"marker": "o"}}
    with canvas() as (figure, axes):
        for name, label in labels.items():
            points = [(row[x], row[name]) for row in rows if name in row]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, **looks.get(name, {}))
        axes.set(xlabel=x.replace("_", " "), ylabel="return")
        axes.legend()
    return Plot(figure, alt)


def kl_bars(kl: np.ndarray, alt: str) -> Plot:
    """What each latent says about a frame, the most talkative first.

    Args:
        kl: Nats per latent (L,), the mean over frames.
        alt: What there is to see, in words.
    """
    order = np.argsort(kl)[::-1]
    with canvas() as (figure, axes):
        axes.bar(range(len(kl)), np.asarray(kl)[order])
        many = {"fontsize": 8, "rotation": 90} if len(kl) > 8 else {}
        axes.set_xticks(range(len(kl)), [str(i) for i in order], **many)
        axes.set(xlabel="latent", ylabel="KL [nats]")
        axes.grid(False, axis="x")
    return Plot(figure, alt)


def scores(rows: Sequence[dict[str, Any]], alt: str, marks: dict[str, float] | None = None) -> Plot:
    """Every return as a dot, over its agent's mean with the 95 % interval of that mean.

    Args:
        rows: Of a report: ``agent``, ``returns``, ``mean``, ``ci95``; without returns the interval
            alone is drawn.
        alt: What there is to see, in words.
        marks: Named values to compare with.
    """
    rng = np.random.default_rng(0)  # dots of equal returns are shaken apart
    with canvas(height=0.8 + 0.75 * len(rows)) as (figure, axes):
        for y, row in enumerate(rows):
            returns = np.asarray(row.get("returns", []))
            shaken = y + rng.uniform(0.05, 0.25, len(returns))
            axes.plot(returns, shaken, "o", color=COLOURS[0], alpha=0.45, markersize=4)
            axes.errorbar(
                row["mean"], y - 0.08, xerr=row["ci95"], fmt="D", capsize=4, color=COLOURS[1]
            )
            words = f"{row['agent']}: {row['mean']:.0f} ± {row['ci95']:.0f}"
            place = axes.get_yaxis_transform()
            axes.text(0.0, y - 0.3, words, transform=place, va="center", **CLEAR)
        for name, value in (marks or {}).items():
            axes.axvline(value, color=QUIET, linestyle=":")
            axes.text(value, len(rows) - 0.55, name, ha="center", va="center", color=QUIET, **CLEAR)
        axes.set(xlabel="return", yticks=[], ylim=(len(rows) - 0.4, -0.55))
        axes.spines["left"].set_visible(False)
    return Plot(figure, alt)
