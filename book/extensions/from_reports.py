"""Pages made from reports, so that no figure is typed: results, and what was withstood."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from charts import strips

from wmlib.show.plots import read_search

FAULTS = Path(__file__).parents[2] / "tests" / "faults"
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
SHIPPED = PLAIN["agent"]
THEIR_SCORE = 906
# The rows of the driver before it was edited by hand, on the same tracks; read again by nobody.
BEFORE_EDITS = Path(__file__).parents[1] / "experiments" / "before_edits.json"
# DoomTakeCover: C learned in dreams at τ; tics in the dream, and in 100 real games.
THEIR_DREAMS = {
    0.1: ("2086 ± 140", "193 ± 58"),
    0.5: ("2060 ± 277", "196 ± 50"),
    1.0: ("1145 ± 690", "868 ± 511"),
    1.15: ("918 ± 546", "1092 ± 556"),
    1.3: ("732 ± 269", "753 ± 139"),
}
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
        if any("tau" in row for row in rows):
            yield from from_dreams(rows)
            continue
        if path.parent.name == "carracing-v3":
            yield from by_hand(rows)
        yield from beside_the_paper(rows)
        yield from cost(read_search(path.parent))


def name_of(row: Row) -> str:
    """The agent, in the words of this page."""
    return PLAIN.get(row["agent"], row["agent"])


def every_row(rows: list[Row]) -> Iterator[str]:
    label = {id(row): f"{name_of(row)} ({_game(row)})" for row in rows}
    yield from strips(
        [row | {"label": label[id(row)]} for row in rows],
        f"Every lap of {len(rows)} agents as a dot, over the mean and its 95 % interval; the "
        "table below has the figures.",
        THEIR_SCORE,
    )
    yield (
        "\nEvery dot is a lap, the bar below the dots the 95 % interval of their mean, the dashed "
        f"line the paper's {THEIR_SCORE} on version 0.\n"
    )
    tracks = [f"{row['episodes']} tracks, seed {row['seed']}" for row in rows]
    alike = len(set(tracks)) == 1  # then one sentence will do, and the table fits into a phone
    if alike:
        yield f"Every row: {tracks[0]}.\n"
    heads = ["agent, game", *([] if alike else ["tracks"])]
    heads += ["mean, 95 % interval", "median", "sd", "worst"]
    yield f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}"
    for row, where in zip(rows, tracks, strict=True):
        returns = np.array(row["returns"])
        yield (
            f"| {label[id(row)]} |{'' if alike else f' {where} |'} "
            f"**{row['mean']:.0f}** ± {row['ci95']:.0f} | {np.median(returns):.0f} "
            f"| {row['std']:.0f} | {returns.min():.0f} |"
        )
    measured = rows[-1]
    versions = ", ".join(f"{name} {number}" for name, number in measured["versions"].items())
    yield f"\nThe last row was measured with {versions}, on {measured['hardware']}.\n"


def by_hand(rows: list[Row]) -> Iterator[str]:
    """The shipped C beside the one that it was before its edits by hand."""
    edits = json.loads(BEFORE_EDITS.read_text(encoding="utf-8"))["rows"]
    shipped = {
        (row["backend"], name_of(row)): row for row in rows if name_of(row).startswith(SHIPPED)
    }
    yield "### What was done by hand\n"
    yield (
        "The shipped C is no search's own result: it was edited by hand twice, with eight "
        "generations of search between the edits ({doc}`log`). The same 100 tracks, without and "
        "with all this:\n"
    )
    yield "| game | before the edits | shipped |\n|---|---|---|"
    for row in edits:
        after = shipped[row["backend"], name_of(row)]
        sampled = ", z sampled" if "sampled" in row["agent"] else ""
        cells = [f"{r['mean']:.0f} ± {r['ci95']:.0f}" for r in (row, after)]
        yield f"| {_game(row)}{sampled} | {' | '.join(cells)} |"
    yield ""


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
        "\nHere, and only here, ± is the standard deviation over tracks, as in the paper. The "
        "paper's agents act on samples of z; so does the row *z sampled* here, and only that one: "
        "all others act on the mean. The means of the shipped agent and of the paper's differ "
        "by less than their errors: it reaches the paper's score, and does not beat it. The rows "
        "between the first and the last share one budget of search, smaller than the last one's. "
        "Three seeds of one of them lie further apart than the rows do, so this budget does not "
        "say what each part is worth (chapter 08). A second and a third seed are C evolved again.\n"
    )
    yield (
        "[^ctallec]: Measured by [ctallec/world-models](https://github.com/ctallec/world-models); "
        "the paper has no such row.\n"
    )


def from_dreams(rows: list[Row]) -> Iterator[str]:
    """What was learned in dreams alone, by τ: in its own dream, and in the game."""
    yield "### By the temperature of the dream\n"
    yield "| τ | in its own dream | in the game | the paper: dream | the paper: game |"
    yield "|---|---|---|---|---|"
    for row in sorted((row for row in rows if "tau" in row), key=lambda row: row["tau"]):
        dreamed, played = THEIR_DREAMS.get(row["tau"], ("–", "–"))
        yield (
            f"| {row['tau']:g} | {row['dream_mean']:.0f} ± {row['dream_std']:.0f} "
            f"| {row['mean']:.0f} ± {row['std']:.0f} | {dreamed} | {played} |"
        )
    yield (
        "\nTics survived, of at most 2,100; ± is the standard deviation over games here, as in the "
        "paper. Which τ ships was chosen on other seeds; the chapter says how, and what a player "
        "with closed eyes gets for nothing "
        "({doc}`../notebooks/12_can_it_learn_from_dreams_alone`).\n"
    )


def _game(row: Row) -> str:
    return BACKENDS.get(row["backend"], row["backend"])


def _score(row: Row, name: str) -> str:
    details = [_game(row), name_of(row)[len(name) + 2 :]]
    return f"{row['mean']:.0f} ± {row['std']:.0f} ({', '.join(filter(None, details))})"


def cost(rows: list[dict[str, float]]) -> Iterator[str]:
    yield "### What the search for C took\n"
    yield "| score | generation | steps | time | core-hours |"
    yield "|---|---|---|---|---|"
    scored = [row for row in rows if "cma_mean" in row]
    for mark in MARKS:
        row = next((row for row in scored if row["cma_mean"] >= mark), None)
        yield f"| {mark} | {'not reached | | |' if row is None else _spent(row)} |"
    yield f"| the whole search | {_spent(rows[-1])} |"
    yield (
        f"\nThe score is that of the CMA mean on held-out tracks, measured every few generations, "
        "in the game that the search drove: EnvPool until near the end. "
        f"Times are of {CORES} cores, which other work shared. Not counted: searches that were "
        "given up, the laps that these scores took, and those that the edits by hand took. The "
        f"authors' search took {THEIR_CORE_HOURS:,} core-hours.\n"
    )


def _spent(row: dict[str, float]) -> str:
    hours = row["seconds"] / 3600
    time = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    steps = f"{row['env_steps'] / 1e6:.2f} million"
    return f"{row['generation']:.0f} | {steps} | {time} | {CORES * hours:.1f}"


# What a campaign does, for those who do not read its code.
CAMPAIGNS = {
    "kills_at_files": "SIGKILL while a file is half written, whole, or just renamed",
    "kills_at_any_instant": "SIGKILL at any instant of any stage",
    "findings": "the 25 findings of the first attack, each by its number",
    "physical": "files emptied, cut, zeroed, overwritten, with a hole, with one bit flipped",
    "content": "whole files, rightly signed, that say what cannot be, or belong to another run",
    "malicious": "files that would run code or fill the memory; devices and pipes as targets",
    "full_disk": "no space left, a read-only disk, files that may not grow",
    "nan": "rewards and actions that are no numbers",
    "signals": "Ctrl-C, SIGTERM, SIGHUP at any instant, while the command line loads, too",
    "workers": "a game's process is killed or stopped",
    "orphans": "the main process is killed: its games must end",
    "two_at_once": "two runs in one folder",
    "command_line": "flags, games and folders that cannot be meant",
    "ray_nodes": "workers, nodes and all nodes of a Ray cluster are killed at work",
}


def _report(name: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((FAULTS / name).read_text(encoding="utf-8"))
    return report


def faults() -> Iterator[str]:
    """The campaigns, V on pale and dark games, and threads that wait."""
    yield from campaigns(_report("report.json"))
    yield from vision(_report("vision.json"))
    yield from threads(_report("threads.json"))


def campaigns(report: dict[str, Any]) -> Iterator[str]:
    """A row for each campaign, and their sums."""
    rows = report["rows"]
    yield "| what is done | cases | violations | seconds |\n|---|--:|--:|--:|"
    for row in rows:
        cells = [f"{row['cases']:,}", f"{row['violations']}", f"{row['seconds']:.0f}"]
        yield f"| {CAMPAIGNS[row['campaign']]} | {' | '.join(cells)} |"
    cases, violations = (sum(row[key] for row in rows) for key in ("cases", "violations"))
    kills = sum(row["cases"] for row in rows if row["campaign"].startswith("kills"))
    yield (
        f"\n{cases:,} cases, {kills:,} of them kills, and {violations} violations; "
        f"seed {rows[0]['seed']}, torch {report['versions']['torch']}.\n"
    )


def vision(report: dict[str, Any]) -> Iterator[str]:
    """V's error beside the mean frame's."""
    yield "## Does V see?\n"
    yield (
        "On games of few colours the last sigmoid of V's decoder can saturate in the first steps, "
        "and V then draws one and the same frame for good. Therefore it begins with a bias that "
        "draws the data's mean colour, and its learning rate rises over the first steps. Below is "
        f"its error on fresh episodes after {report['steps']} steps of {report['batch']} frames "
        f"of {report['episodes']} episodes, in levels of 255 (root mean square); *before* is the "
        "same training from the same first weights without these two. Who draws the mean frame, "
        "whatever there is to see, has the error in the second column. A training ends with this "
        "comparison in words.\n"
    )
    yield "| game | mean frame | V, before | V |\n|---|--:|--:|--:|"
    for row in report["rows"]:
        cells = [f"{row[key]:.1f}" for key in ("mean_frame", "plain", "wmlib")]
        yield f"| {row['env_id']} | {' | '.join(cells)} |"
    yield ""


def threads(report: dict[str, Any]) -> Iterator[str]:
    """Steps per second by how threads wait, on an idle machine and on a busy one."""
    yield "## Threads that wait\n"
    yield (
        "PyTorch's threads wait for each other by spinning. On a core that another program wants, "
        "that costs both. `wmlib` sets `GOMP_SPINCOUNT=20000` before torch loads, unless you have "
        "set it, or `OMP_WAIT_POLICY`, yourself. On a machine that is always busy, "
        "`OMP_NUM_THREADS=1` is the safe choice.\n"
    )
    yield (
        f"Steps per second on {report['cores']} cores, alone and beside as many programs that "
        "want a core each: M on 16 rows, V learning from 32 frames.\n"
    )
    yield "| how they wait | M, idle | M, busy | V, idle | V, busy |\n|---|--:|--:|--:|--:|"
    for row in report["rows"]:
        cells = [row.get(f"{what}_{part}") for what in "mv" for part in ("idle", "busy")]
        told = ["not measured" if cell is None else f"{cell:,}" for cell in cells]
        yield f"| {row['setting']} | {' | '.join(told)} |"
