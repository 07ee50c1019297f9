"""The figures that chapters take from book/experiments are those in its tables."""

import ast
import csv
from pathlib import Path

import nbformat

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
