"""The built book: complete, linked, and with no address of a CDN in it."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

import wmlib
from wmlib.show import films, plots, widgets

pytestmark = pytest.mark.slow

# Attributes through which a page fetches by itself; an <a href> only leads somewhere.
FETCHED = {
    ("img", "src"),
    ("script", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("link", "href"),
}


class Page(HTMLParser):
    """The identifiers of a page, what it fetches and where it leads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.fetches: list[str] = []
        self.links: list[str] = []
        self.images_without_alt: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.ids.update(values[name] for name in ("id", "name") if name in values)
        self.fetches += [values[name] for t, name in FETCHED if t == tag and name in values]
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "img" and not values.get("alt"):
            self.images_without_alt.append(values.get("src", ""))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {
        path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts
    }


def chapters(entry: object) -> list[str]:
    """Every file that _toc.yml names, in order."""
    if isinstance(entry, list):
        return [name for item in entry for name in chapters(item)]
    if not isinstance(entry, dict):
        return []
    own = [entry[key] for key in ("root", "file") if key in entry]
    return own + [name for value in entry.values() for name in chapters(value)]


def test_every_page_of_the_contents_is_built(site: Path, root: Path) -> None:
    names = chapters(yaml.safe_load((root / "_toc.yml").read_text()))
    assert len(names) >= 10
    assert not [name for name in names if not (site / f"{name}.html").is_file()]


def test_every_page_is_in_the_contents(root: Path) -> None:
    names = set(chapters(yaml.safe_load((root / "_toc.yml").read_text())))
    written = [*(root / "book").glob("*.md"), *(root / "notebooks").glob("*.ipynb")]
    assert {str(path.relative_to(root).with_suffix("")) for path in written} == names


def test_links_inside_the_book_lead_somewhere(pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links + page.fetches:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            places = pages[target].ids if target in pages else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in places):
                broken.append((path.name, link))
    assert not broken


def test_no_page_fetches_from_elsewhere(pages: dict[Path, Page]) -> None:
    fetched = {link for page in pages.values() for link in page.fetches}
    assert not {link for link in fetched if urlsplit(link).scheme in {"http", "https"}}
    assert not {link for link in fetched if link.startswith("//")}


def test_no_page_names_a_cdn(pages: dict[Path, Page]) -> None:
    cdn = re.compile(r"unpkg\.com|jsdelivr\.net|cdnjs\.|googleapis\.com|bootstrapcdn|esm\.sh")
    assert not [path.name for path in pages if cdn.search(path.read_text())]


def test_every_picture_says_what_it_shows(pages: dict[Path, Page]) -> None:
    silent = {path.name: page.images_without_alt for path, page in pages.items()}
    assert not {name: images for name, images in silent.items() if images}


def test_vendored_scripts_are_in_the_site(site: Path, root: Path) -> None:
    vendor = root / "book" / "assets" / "vendor"
    for path in vendor.rglob("*"):
        if path.is_file():
            copy = site / "_static" / "vendor" / path.relative_to(vendor)
            assert copy.read_bytes() == path.read_bytes()


def test_the_vendored_anywidget_is_the_installed_one(root: Path) -> None:
    installed = files("anywidget") / "nbextension" / "index.js"
    vendored = root / "book" / "assets" / "vendor" / "anywidget.js"
    assert vendored.read_bytes() == installed.read_bytes()


def test_the_api_reference_has_every_public_name(site: Path, pages: dict[Path, Page]) -> None:
    ids = pages[site / "book" / "api.html"].ids
    public = [f"wmlib.{name}" for name in wmlib.__all__ if callable(getattr(wmlib, name))]
    assert len(public) > 20
    for room in (films, plots, widgets):
        public += [f"{room.__name__}.{name}" for name in room.__all__]
    assert not set(public) - ids


def test_the_status_page_has_every_chapter(site: Path, root: Path) -> None:
    html = (site / "book" / "status.html").read_text()
    times = json.loads((root / "book" / "run_times.json").read_text())
    for path in (root / "notebooks").glob("*.ipynb"):
        assert f'href="../notebooks/{path.stem}.html"' in html
    assert all(entry["machine"] in html for entry in times.values())
    assert "not yet measured" not in html


def test_the_configuration_reference_has_every_field(site: Path) -> None:
    html = (site / "book" / "configuration.html").read_text()
    for config in (wmlib.WMVAEConfig, wmlib.WMMDNRNNConfig, wmlib.WMControllerConfig):
        assert config.__name__ in html
        for field in config.__dataclass_fields__:
            assert f'<span class="pre">{field}</span>' in html
