"""The welcome page: a dream that runs in it, and its three numbers, read from the reports."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from from_reports import BEFORE_EDITS, CORES, PRETRAINED, SHIPPED, name_of
from sphinx.application import Sphinx

from wmlib import load_pretrained
from wmlib.checkpoints import atomic_path
from wmlib.show import pages, widgets
from wmlib.show.plots import read_search

BEND = 7  # of the recorded frames, one in the middle of a bend
CHAPTER = "08_does_it_work_and_would_we_know"


def numbers() -> Iterator[str]:
    """Score, parameters and hours, each with the words that keep it honest."""
    folder = PRETRAINED / "carracing-v3"
    rows = json.loads((folder / "report.json").read_text(encoding="utf-8"))["rows"]
    world = load_pretrained("carracing-v3")
    hours = read_search(folder)[-1]["seconds"] / 3600
    both = sum(_hours(folder / stage / "history.json") for stage in ("vae", "mdrnn"))
    c = sum(parameter.numel() for parameter in world.controller.parameters())
    others = sum(p.numel() for model in (world.vae, world.mdrnn) for p in model.parameters())
    driven = _row(rows, SHIPPED, "gymnasium")
    sampled = _row(rows, f"{SHIPPED}, z sampled", "envpool")
    before = json.loads(BEFORE_EDITS.read_text(encoding="utf-8"))["rows"]
    unedited = _row(before, SHIPPED, "gymnasium")
    unedited_sampled = _row(before, f"{SHIPPED}, z sampled", "envpool")
    yield '<div class="wm-numbers">'
    yield _number(
        _score(driven),
        f"points on {driven['episodes']} tracks that no part was trained on, with the mean's 95 % "
        f'interval ({_score(unedited)} before C was finished <a href="log.html">by hand</a>). '
        f"The paper: 906. By its rule (noise on what C sees): {_score(sampled)}, before "
        f"the edits {_score(unedited_sampled)} "
        f'(<a href="../notebooks/{CHAPTER}.html#like-for-like">chapter 08</a>).',
    )
    yield _number(f"{c:,}", f"parameters of C, which evolution finds; V and M have {others:,}.")
    yield _number(
        f"{hours:.1f} hours",
        f"of evolution on {CORES} cores, in several runs. V and M of the second round took "
        f"{both:.0f} hour. No GPU.",
    )
    yield "</div>"


def _row(rows: list[dict[str, Any]], agent: str, backend: str) -> dict[str, Any]:
    (found,) = [row for row in rows if (name_of(row), row["backend"]) == (agent, backend)]
    return found


def _hours(history: Path) -> float:
    epochs = json.loads(history.read_text(encoding="utf-8"))["epochs"]
    return float(sum(epoch["seconds"] for epoch in epochs)) / 3600


def _score(row: dict[str, Any]) -> str:
    return f"{row['mean']:.0f} ± {row['ci95']:.0f}"


def _number(number: str, about: str) -> str:
    return f"<p><b>{number}</b> {about}</p>"


def write_dream(app: Sphinx, error: Exception | None) -> None:
    """The player as a classic script, with C at the wheel."""
    if error is not None or app.builder.format != "html":
        return
    player = widgets.DreamPlayer(compact=True, controller_drives=True, start=BEND, tau=0.5)
    state = {k: v for k, v in player.get_state().items() if k not in ("_css", "_esm", "layout")}
    script = pages.standalone(*widgets.PLAYER, state=state)
    with atomic_path(Path(app.outdir) / "_static" / "wmlib" / "dream.js") as temporary:
        temporary.write_text(script, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", write_dream)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
