"""Where the chapters are found: in chapter 00's map, the README, the sidebar, and How to read."""

import re
import tomllib
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
SLUG = ADDRESS.removeprefix("https://github.com/")


def title(path: Path) -> str:
    """What a chapter asks, without its number."""
    first = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
    return first.partition(" · ")[2].replace("$", "")


def test_there_are_thirteen_chapters() -> None:
    assert [path.stem[:2] for path in CHAPTERS] == [f"{number:02}" for number in range(13)]


def test_the_map_leads_to_every_other_chapter_wherever_it_is_read() -> None:
    """A name beside it, for the site and JupyterLab; Colab's address, for Colab."""
    first, *others = CHAPTERS
    cells = nbformat.read(first, as_version=4).cells
    (source,) = [c.source for c in cells if c.source.startswith("## The map of the book")]
    row = re.compile(r"^\| (\d\d) \| \[(.+?)\]\((\S+?)\) \|.*\| \[in Colab\]\((\S+?)\) \|$", re.M)
    colab = f"https://colab.research.google.com/github/{SLUG}/blob/main/notebooks"
    rows = [(n, asks.replace("$", ""), name, there) for n, asks, name, there in row.findall(source)]
    wanted = [(p.stem[:2], title(p), p.name, f"{colab}/{p.name}") for p in others]
    assert rows == wanted


def test_the_readme_leads_to_every_chapter() -> None:
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| \[(\d\d)\]\(notebooks/(\S+)\) \| (.+?) \|", readme, re.MULTILINE)
    assert rows == [(path.stem[:2], path.name, title(path)) for path in CHAPTERS]


def test_the_paths_through_the_book_leave_no_chapter_out() -> None:
    page = (ROOT / "book" / "how_to_read.md").read_text()
    links = re.findall(r"\]\(\.\./notebooks/(\S+?)\)", page)
    assert set(links) == {path.name for path in CHAPTERS}


def test_the_sidebar_has_the_chapters_in_order() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert [name for name in files if name.startswith("notebooks/")] == [
        f"notebooks/{path.stem}" for path in CHAPTERS
    ]
