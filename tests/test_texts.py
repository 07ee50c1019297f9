"""What the pages say in figures is what the reports hold."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import nbformat
import pytest

from wmlib.__main__ import _parser
from wmlib.show.plots import read_generations, read_search


@pytest.fixture
def shipped(root: Path) -> Path:
    return root / "wmlib" / "pretrained" / "carracing-v3"


def page(root: Path, name: str) -> str:
    """A page in one line."""
    return " ".join((root / "book" / f"{name}.md").read_text(encoding="utf-8").split())


def scores(path: Path) -> dict[tuple[str, str], str]:
    """Mean and interval of the shipped agent's rows, by game and whether z was sampled."""
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return {
        (row["backend"], "sampled" if "sampled" in row["agent"] else "mean"):
            f"{row['mean']:.0f} ± {row['ci95']:.0f}"
        for row in rows
        if row["agent"].startswith("V + M, the shipped agent")
    }  # fmt: skip


@pytest.mark.parametrize("name", ["log", "differences_from_the_paper"])
def test_the_scores_with_and_without_the_edits(name: str, root: Path, shipped: Path) -> None:
    text = page(root, name)
    now = scores(shipped / "report.json")
    before = scores(root / "book" / "experiments" / "before_edits.json")
    for score in (*now.values(), *before.values()):
        assert score in text, score


@pytest.mark.parametrize("chapter", ["03", "08"])
def test_a_chapter_that_gives_the_score_on_samples_gives_that_before_the_edits(
    chapter: str, root: Path, shipped: Path
) -> None:
    (path,) = (root / "notebooks").glob(f"{chapter}_*.ipynb")
    text = " ".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    for report in (shipped / "report.json", root / "book" / "experiments" / "before_edits.json"):
        assert scores(report)["envpool", "sampled"] in text


def test_chapter_08_names_the_drivers_that_were_scored_on_its_tracks(root: Path) -> None:
    (path,) = (root / "notebooks").glob("08_*.ipynb")
    text = " ".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    before = scores(root / "book" / "experiments" / "before_edits.json")
    envpool, gymnasium = before["envpool", "mean"], before["gymnasium", "mean"]
    assert f"the next with {envpool} there and {gymnasium} in Gymnasium" in text


def test_the_readme_has_the_scores_and_what_two_cores_reach(root: Path, shipped: Path) -> None:
    text = " ".join((root / "README.md").read_text(encoding="utf-8").split())
    now = scores(shipped / "report.json")
    before = scores(root / "book" / "experiments" / "before_edits.json")
    wanted = (now["gymnasium", "mean"], now["envpool", "sampled"], before["gymnasium", "mean"])
    assert all(score in text for score in wanted), wanted
    first = read_generations(shipped / "round1" / "ctrl" / "generations.csv")[-1]
    assert f"| {first['seconds'] / 60:.0f} minutes, the first round's 40 small generations" in text
    assert (first["generation"], f"| {first['cma_mean']:.0f} | 16 held-out |" in text) == (40, True)
    assert f"| {read_search(shipped)[-1]['seconds'] / 3600:.1f} hours, all searches" in text
    report = root / "wmlib" / "pretrained" / "takecover" / "report.json"
    rows = json.loads(report.read_text(encoding="utf-8"))["rows"]
    tics = {row["agent"]: f"{row['mean']:.0f} ± {row['ci95']:.0f}" for row in rows}
    assert f"over 1,000 games it survives {tics[rows[0]['agent']]} tics" in text
    assert f"with closed eyes, {tics['blind: sweep 100']}." in text


def test_beta_fits_the_error_that_v_has(root: Path, shipped: Path) -> None:
    """A decoder of noise variance s has the bound of beta = 2 s; the error is 12,288 s."""
    history = json.loads((shipped / "vae" / "history.json").read_text(encoding="utf-8"))
    error = history["epochs"][-1]["test_mse"]
    text = page(root, "differences")
    assert f"{error:.1f} per frame of 12,288 numbers" in text
    assert f"a variance of {error / 12_288:.4f}" in text
    assert f"**β = {2 * error / 12_288:.4f}**" in text


def test_reaches_and_does_not_beat(root: Path, shipped: Path) -> None:
    """The paper's 906 ± 21 over 100 tracks has an interval of its own."""
    rows = json.loads((shipped / "report.json").read_text(encoding="utf-8"))["rows"]
    (ours,) = [r for r in rows if r["backend"] == "gymnasium" and "shipped" in r["agent"]]
    difference = ours["mean"] - 906
    error = (ours["ci95"] ** 2 + (1.96 * 21 / 10) ** 2) ** 0.5
    text = page(root, "differences_from_the_paper")
    assert f"The difference of 910 and 906 is {difference:.0f} ± {error:.0f} " in text
    assert difference < error


def commands(root: Path) -> list[str]:
    """Every command line of wmlib that a page or a chapter gives, in one line each."""
    pages = [*root.glob("*.md"), *(root / "book").glob("*.md"), *(root / "runs").rglob("*.md")]
    texts = [path.read_text(encoding="utf-8") for path in pages]
    for path in (root / "notebooks").glob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        texts += [cell.source for cell in cells if cell.cell_type == "markdown"]
    blocks = [block for text in texts for block in re.findall(r"```bash\n(.*?)```", text, re.S)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    called = re.compile(r"(?:\w+=\S+ )*(?:\.venv/bin/|python -m )?wmlib (--(?!help).+)")
    return [found[1] for line in lines if (found := called.match(line))]


def test_every_command_that_is_given_can_be_given(root: Path) -> None:
    given = commands(root)
    assert len(given) >= 8
    for line in given:
        _parser().parse_args(shlex.split(line, comments=True))
    with pytest.raises(SystemExit):
        _parser().parse_args(["--preset", "full"])  # as one of them was, once
