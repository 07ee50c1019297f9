"""The figures that chapters take from book/experiments are those in its tables."""

import ast
import csv
from pathlib import Path

import nbformat

from wmlib.__main__ import _in_words
from wmlib.checkpoints import read_json

ROOT = Path(__file__).resolve().parent.parent


def test_chapter_09_shows_the_table_of_dream_py() -> None:
    with (ROOT / "book" / "experiments" / "dream.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    notebook = nbformat.read(
        ROOT / "notebooks" / "09_can_it_learn_inside_its_own_dream.ipynb", as_version=4
    )
    (source,) = [c.source for c in notebook.cells if c.source.startswith("dreamed = {")]
    shown = {
        target.id: ast.literal_eval(line.value)
        for line in ast.parse(source).body
        if isinstance(line, ast.Assign) and isinstance(target := line.targets[0], ast.Name)
    }
    searches = [row for row in rows if row["tau"]]
    for column in ("dreamed", "first", "lap"):
        wanted: dict[float, list[int]] = {}
        for row in searches:
            wanted.setdefault(float(row["tau"]), []).append(int(row[column]))
        assert shown[column] == wanted
    laps = {row["seed"]: int(row["lap"]) for row in rows if not row["tau"]}
    assert shown["beginner_lap"] == laps["zero"]
    assert shown["shipped_lap"] == laps["shipped"]
    (shipped,) = [row for row in rows if row["seed"] == "shipped"]
    assert shown["shipped_first"] == int(shipped["first"])


def test_chapter_11_quotes_the_report_of_its_command() -> None:
    """What `wmlib` printed after the run that wrote lunarlander.json."""
    report = read_json(ROOT / "book" / "experiments" / "lunarlander.json", "rows", "verdicts")
    notebook = nbformat.read(ROOT / "notebooks" / "11_how_do_i_make_it_mine.ipynb", as_version=4)
    (source,) = [c.source for c in notebook.cells if "```text\nV beats" in c.source]
    quoted = source.partition("```text\n")[2].partition("\n```")[0].splitlines()
    verdicts, rows = report["verdicts"], _in_words(report["rows"]).splitlines()
    assert quoted == [*verdicts[:2], *rows]
    assert verdicts[2:] == rows[2:]
    sharper = read_json(ROOT / "book" / "experiments" / "lunarlander_vae.json", "verdict")
    assert f"```text\n{sharper['verdict']}\n```" in source
