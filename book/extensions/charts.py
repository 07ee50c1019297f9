"""Charts as HTML: they take the width and the theme of the page that they stand in."""

from collections.abc import Iterator
from html import escape
from typing import Any

import numpy as np

LOW, HIGH = -100.0, 1000.0  # of the axis, in points
TICKS = (0, 200, 400, 600, 800)


def strips(rows: list[dict[str, Any]], name: str, mark: float) -> Iterator[str]:
    """A strip for each row: every return as a dot, the mean with its interval, and a mark.

    Args:
        rows: ``label``, ``returns``, ``mean`` and ``ci95`` each.
        name: What the chart is called by a screen reader.
        mark: A score to compare with.
    """
    yield f'<div class="wm-strips" role="img" aria-label="{escape(name)}">'
    for row in rows:
        yield f"<p>{escape(row['label'])}: <b>{row['mean']:.0f} ± {row['ci95']:.0f}</b></p>"
        yield "".join(_strip(row, mark))
    ticks = (f'<text x="{_at(x):.2f}%" y="12">{x}</text>' for x in TICKS)
    yield f'<svg class="wm-axis" height="16">{"".join(ticks)}</svg>'
    yield "</div>"


def _strip(row: dict[str, Any], mark: float) -> Iterator[str]:
    yield '<svg height="22">'
    yield f'<line class="wm-mark" x1="{_at(mark):.2f}%" x2="{_at(mark):.2f}%" y1="0" y2="22"/>'
    shaken = np.random.default_rng(0).uniform(4, 14, len(row["returns"]))  # equal returns apart
    for x, y in zip(row["returns"], shaken, strict=True):
        yield f'<circle cx="{_at(x):.2f}%" cy="{y:.1f}" r="2.4"/>'
    ends = [_at(row["mean"] + side * row["ci95"]) for side in (-1, 1)]
    yield f'<line class="wm-mean" x1="{ends[0]:.2f}%" x2="{ends[1]:.2f}%" y1="19" y2="19"/>'
    yield "</svg>"


def _at(x: float) -> float:
    """Where a score stands, in percent of the width."""
    return 100 * (x - LOW) / (HIGH - LOW)
