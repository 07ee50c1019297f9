"""The results page, made from the reports that go with the weights, so that no score is typed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from wmlib.plots import read_search

PRETRAINED = Path(__file__).parents[2] / "wmlib" / "pretrained"
Row = dict[str, Any]

# What a row is called here, and what others have: mean ± standard deviation over 100 tracks, v0.
PAPER = {
    "random policy": "–",
    "V only, z": "632 ± 251",
    "V + untrained M": "870 ± 120 [^ctallec]",
    "V + M, z and h": "–",
    "V + M, the shipped agent": "906 ± 21",
}
PLAIN = {"random": "random policy", "agent": "V + M, the shipped agent"}  # a run's own report
MARKS = (300, 600, 800, 900)
CORES = 2  # of the machine that the searches ran on
THEIR_CORE_HOURS = 64 * 1119  # the authors' published log: 1,119 hours on 64 cores
BACKENDS = {"gymnasium": "Gymnasium", "envpool": "EnvPool"}


def results() -> Iterator[str]:
    """A section for each report, that of the agent loaded by default first."""
    reports = sorted(PRETRAINED.glob("*/report.json"), key=lambda path: "quick" in path.parent.name)
    for path in reports:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        yield f"## `{path.parent.name}`\n"
        yield from every_row(rows)
        yield from beside_the_paper(rows)
        yield from cost(read_search(path.parent))


def name_of(row: Row) -> str:
    """The agent, in the words of this page."""
    return PLAIN.get(row["agent"], row["agent"])


def every_row(rows: list[Row]) -> Iterator[str]:
    yield "| agent | game | tracks | mean, 95 % interval | median | standard deviation | worst |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        returns = np.array(row["returns"])
        yield (
            f"| {name_of(row)} | {BACKENDS.get(row['backend'], row['backend'])} "
            f"| {row['episodes']}, seed {row['seed']} "
            f"| **{row['mean']:.0f}** ± {row['ci95']:.0f} | {np.median(returns):.0f} "
            f"| {row['std']:.0f} | {returns.min():.0f} |"
        )
    measured = rows[-1]
    versions = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    yield f"\nThe last row was measured with {versions}, on {measured['hardware']}.\n"


def beside_the_paper(rows: list[Row]) -> Iterator[str]:
    """The ablation, if there is any of it: mean ± standard deviation, as the paper has it."""
    kinds = {
        name: [row for row in rows if f"{name_of(row)}, ".startswith(f"{name}, ")] for name in PAPER
    }
    if sum(map(bool, kinds.values())) <= 2:
        return
    yield "### Beside the paper\n"
    yield "| agent | the paper, v0 | here, v3 |\n|---|---|---|"
    for name, theirs in PAPER.items():
        scores = [_score(row, name) for row in kinds[name]]
        yield f"| {name} | {theirs} | {'; '.join(scores) or 'not measured yet'} |"
    yield (
        "\nHere, and only here, ± is the standard deviation over tracks, as in the paper. The rows "
        "between the first and the last share one budget of search, smaller than the last one's. "
        "Three seeds of one of them lie further apart than the rows do, so this budget does not "
        "say what each part is worth (chapter 08). A second and a third seed are C evolved again. "
        "*z sampled* acts on a draw from what V says of a frame, as the paper's agent does; all "
        "others act on its mean.\n"
    )
    yield (
        "[^ctallec]: Measured by [ctallec/world-models](https://github.com/ctallec/world-models); "
        "the paper has no such row.\n"
    )


def _score(row: Row, name: str) -> str:
    details = [BACKENDS.get(row["backend"], row["backend"]), name_of(row)[len(name) + 2 :]]
    return f"{row['mean']:.0f} ± {row['std']:.0f} ({', '.join(filter(None, details))})"


def cost(rows: list[dict[str, float]]) -> Iterator[str]:
    yield "### What the search for C took\n"
    yield "| held-out score | generation | environment steps | time | core-hours |"
    yield "|---|---|---|---|---|"
    scored = [row for row in rows if "cma_mean" in row]
    for mark in MARKS:
        row = next((row for row in scored if row["cma_mean"] >= mark), None)
        yield f"| {mark} | {'not reached | | |' if row is None else _spent(row)} |"
    yield f"| the whole search | {_spent(rows[-1])} |"
    yield (
        f"\nThe score is that of the CMA mean on held-out tracks, measured every few generations; "
        f"times are of {CORES} cores, which other work shared, and of the searches alone, all of "
        f"them together. The authors' search took {THEIR_CORE_HOURS:,} core-hours.\n"
    )


def _spent(row: dict[str, float]) -> str:
    hours = row["seconds"] / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    steps = f"{row['env_steps'] / 1e6:.2f} million"
    return f"{row['generation']:.0f} | {steps} | {time} | {CORES * hours:.1f}"
