"""Chapters take as long as they say, and were measured."""

import json
from pathlib import Path

import nbformat
import pytest
import run_notebooks as runner

LONGEST = 40  # seconds
PATHS = sorted(runner.FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def times() -> dict:
    return json.loads(runner.TIMES.read_text())


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_a_chapter_takes_as_long_as_it_says(path: Path, times: dict) -> None:
    again = f"run python tests/run_notebooks.py {path.stem[:2]}"
    assert path.stem in times, again
    entry = times[path.stem]
    assert entry["takes"] == runner.takes(entry["wall"], entry["cpu"]) <= LONGEST
    said = runner.TAKES.findall(nbformat.read(path, as_version=4).cells[0].source)
    assert said == [str(entry["takes"])], again


def test_no_time_is_kept_of_a_chapter_that_is_gone(times: dict) -> None:
    assert set(times) <= {path.stem for path in PATHS}


@pytest.mark.parametrize(
    ("wall", "cpu", "told"), [(19.9, 25.0, 20), (90.0, 20.1, 25), (15.0, 15.0, 15)]
)
def test_the_smaller_time_is_told_rounded_up(wall: float, cpu: float, told: int) -> None:
    assert runner.takes(wall, cpu) == told


@pytest.fixture
def chapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A chapter that computes for a second and idles for one, in a book of its own."""
    path = tmp_path / "00_toy.ipynb"
    cells = [
        nbformat.v4.new_markdown_cell("**It takes** about 95 seconds to run on two CPU cores, say"),
        nbformat.v4.new_code_cell(
            "import time\nwhile time.process_time() < 2: pass\n"
            "time.sleep(2)\nfrom ipywidgets import IntSlider\nIntSlider(3)"
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    monkeypatch.setattr(runner, "FOLDER", tmp_path)
    monkeypatch.setattr(runner, "TIMES", tmp_path / "times.json")
    return path


@pytest.mark.slow
def test_a_run_is_saved_measured_and_told(chapter: Path) -> None:
    runner.TIMES.write_text(json.dumps({"99_gone": {}}))
    runner.main(["00"])
    notebook = nbformat.read(chapter, as_version=4)
    assert notebook.cells[1].execution_count == 1
    assert notebook.cells[1].outputs[0].data["text/plain"].startswith("IntSlider")
    assert notebook.metadata.widgets  # a page can revive it
    (entry,) = json.loads(runner.TIMES.read_text()).values()
    assert 2 < entry["cpu"] < entry["wall"]
    assert entry["wall"] > 4
    assert f"about {entry['takes']} seconds" in notebook.cells[0].source
    assert entry["versions"]["torch"]


def test_a_chapter_that_does_not_say_what_it_takes_is_named(chapter: Path) -> None:
    notebook = nbformat.read(chapter, as_version=4)
    notebook.cells[0].source = "**It takes** a while"
    nbformat.write(notebook, chapter)
    with pytest.raises(SystemExit, match=r"00_toy\.ipynb: its first cell says nothing"):
        runner.tell(chapter, 20)


def test_a_chapter_that_is_not_there_is_said(chapter: Path) -> None:
    with pytest.raises(SystemExit, match="there are 00"):
        runner.chapters(["07"])
