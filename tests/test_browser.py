"""The built book in a real browser, with the network cut off: over http, and straight from disk."""

import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route
from test_widgets_browser import patience

pytestmark = pytest.mark.slow

# Formulas are set and their fonts are here.
SETTLED = """Promise.resolve(window.MathJax?.startup?.promise)
    .then(() => document.fonts.ready).then(() => true)"""
LOOK = """() => {
    const all = (selector) => [...document.querySelectorAll(selector)];
    const images = all("article img");
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g);
    return {
        width: document.documentElement.scrollWidth,
        light: +red + +green + +blue > 380,
        widgets: all(".wm").map((root) => root.dataset.widget),
        refused: all(".wm[data-error]").map((root) => root.dataset.error),
        formulas: all(".math").length,
        set: all(".math mjx-container").filter((m) => m.getBoundingClientRect().width > 0).length,
        wrong: all("mjx-merror, mjx-error").length,
        images: images.length,
        blank: images.filter((i) => !i.complete || !i.naturalWidth).map((i) => i.src),
    };
}"""
# Each widget that the page announces is drawn; ours have their first picture or say why not. They
# wait until they come near the view.
ALIVE = """() => {
    const views = 'script[type="application/vnd.jupyter.widget-view+json"]';
    const waiting = [...document.querySelectorAll(views)].find((view) => {
        const place = view.parentElement.querySelector(".widget-subarea");
        return !place?.querySelector(".jupyter-widgets, .wm[data-ready], .wm[data-error]");
    });
    waiting?.closest("details")?.setAttribute("open", "");
    waiting?.parentElement.scrollIntoView();
    return !waiting;
}"""
WIDGETS = {"LatentExplorer", "DreamPlayer", "RealVsDream", "DoomDreamPlayer"}
WIDGETS |= {"MixturePlayground", "CMAExplorer"}
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def server(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output to the test's."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


# The widgets' manager brings a style for icons, whose fonts are not shipped: a slow page asks for
# them until the theme's script has drawn its icons as pictures. Nobody sees a difference.
ICON_FONT = re.compile(r"/vendor/@jupyter-widgets/[0-9a-f]{20}\.(woff2?|ttf)$")


class Visit:
    """A browser tab that notes what goes wrong and lets nothing out."""

    def __init__(self, browser: Browser, home: str, viewport: dict[str, int]) -> None:
        self.home, self.faults = home, []
        self.context = browser.new_context(viewport=viewport)
        self.context.route("**/*", self.guard)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(30_000 * patience())
        self.page.on("requestfailed", lambda r: self.note(f"failed: {r.url}", r.url))
        self.page.on("response", self.check)
        self.page.on("pageerror", lambda error: self.faults.append(f"script error: {error}"))
        self.page.on("console", self.listen)

    def guard(self, route: Route) -> None:
        if route.request.url.startswith((self.home, "data:", "blob:")):
            route.continue_()
        else:
            self.faults.append(f"external: {route.request.url}")
            route.abort()

    def check(self, response) -> None:
        if response.status >= 400:
            self.note(f"{response.status}: {response.url}", response.url)

    def listen(self, message) -> None:
        if message.type == "error":
            self.note(f"console: {message.text}", message.location["url"])

    def note(self, fault: str, url: str) -> None:
        if not ICON_FONT.search(url):
            self.faults.append(fault)

    def open(self, name: str) -> None:
        self.faults.clear()
        self.page.goto(f"{self.home}/{name}", wait_until="load")
        self.page.evaluate(SETTLED)
        self.page.wait_for_load_state("networkidle")  # widgets load their parts late
        self.page.wait_for_function(ALIVE)
        self.page.evaluate("window.scrollTo(0, 0)")

    def look(self) -> dict:
        """What there is to see on the page, once it has settled."""
        return self.page.evaluate(LOOK) | {"faults": list(self.faults)}


def names(site: Path) -> list[str]:
    """Every page, search and index included, but for the front page that leads on to the first."""
    found = {str(p.relative_to(site)) for p in site.rglob("*.html") if "_static" not in p.parts}
    assert len(found) >= 10
    return sorted(found - {"index.html"})


@pytest.fixture(scope="module", params=["http", "file"])
def visit(request: pytest.FixtureRequest, browser: Browser, site: Path) -> Iterator[Visit]:
    home = site.as_uri() if request.param == "file" else request.getfixturevalue("server")
    visit = Visit(browser, home, DESKTOP)
    yield visit
    visit.context.close()


def test_the_front_page_leads_to_the_first(visit: Visit) -> None:
    visit.page.goto(f"{visit.home}/index.html")
    visit.page.wait_for_url("**/book/welcome.html")
    visit.page.wait_for_load_state("networkidle")
    assert not visit.faults  # a first visit: nothing is stored yet


DREAMED = "n => Number(document.querySelector('.wm-alone .wm')?.dataset.t) > n"


def test_the_welcome_page_dreams_until_the_reader_takes_the_wheel(visit: Visit, root: Path) -> None:
    visit.open("book/welcome.html")
    page, player = visit.page, visit.page.locator(".wm-alone .wm")
    page.wait_for_function(DREAMED, arg=10)
    assert page.get_by_role("button", name="C is driving").is_visible()
    stage = player.get_by_role("group", name="dream: steer")
    stage.focus()
    page.keyboard.down("ArrowLeft")
    page.get_by_role("button", name="Let C drive").wait_for()
    page.wait_for_function(
        "() => JSON.parse(document.querySelector('.wm-alone .wm').dataset.action)[0] < -0.5"
    )
    page.keyboard.up("ArrowLeft")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.get_by_role("button", name="Play").wait_for(state="attached")  # unseen, it waits
    page.evaluate("window.scrollTo(0, 0)")
    page.get_by_role("button", name="Pause").wait_for()
    assert not visit.faults


def test_the_welcome_page_has_three_numbers_and_three_ways_in(visit: Visit, root: Path) -> None:
    visit.open("book/welcome.html")
    report = root / "wmlib" / "pretrained" / "carracing-v3" / "report.json"
    rows = json.loads(report.read_text(encoding="utf-8"))["rows"]
    (score,) = [
        f"{row['mean']:.0f} ± {row['ci95']:.0f}"
        for row in rows
        if row["backend"] == "gymnasium" and "shipped" in row["agent"]
    ]
    numbers = visit.page.locator(".wm-numbers b").all_inner_texts()
    assert numbers[:2] == [score, "867"]
    assert len(numbers) == 3
    assert visit.page.locator(".wm-ways a").count() == 3
    last = visit.page.locator(".wm-ways a").last.bounding_box()
    assert last["y"] + last["height"] < DESKTOP["height"]  # all of it in the first screen


def test_code_is_not_cut_on_a_laptop(visit: Visit, root: Path) -> None:
    chapter = next((root / "notebooks").glob("06_*.ipynb")).stem
    visit.open(f"notebooks/{chapter}.html")
    cut = visit.page.evaluate(
        """() => [...document.querySelectorAll("div.cell_input pre")]
            .filter((pre) => pre.clientWidth && pre.scrollWidth > pre.clientWidth + 1)
            .map((pre) => pre.textContent.slice(0, 80))"""
    )
    assert not cut


@pytest.fixture(scope="module")
def findings(visit: Visit, site: Path) -> dict[str, dict]:
    """What was found on each page."""
    found = {}
    for name in names(site):
        visit.open(name)
        found[name] = visit.look()
    return found


def test_every_chapter_was_opened(findings: dict[str, dict], root: Path) -> None:
    chapters = {f"notebooks/{path.stem}.html" for path in (root / "notebooks").glob("*.ipynb")}
    assert chapters
    assert chapters <= set(findings)


def test_every_page_opens_without_a_fault(findings: dict[str, dict]) -> None:
    faults = {name: page["faults"] for name, page in findings.items()}
    assert not {name: found for name, found in faults.items() if found}


def test_every_formula_is_set(findings: dict[str, dict]) -> None:
    for name, page in findings.items():
        assert page["set"] >= page["formulas"], f"{name}: formulas that are not set"
        assert not page["wrong"], f"{name}: formulas with errors"
    assert sum(page["formulas"] for page in findings.values()) > 20


def test_every_figure_shows(findings: dict[str, dict]) -> None:
    blank = {name: page["blank"] for name, page in findings.items()}
    assert not {name: images for name, images in blank.items() if images}
    assert any(page["images"] for page in findings.values())


def test_every_widget_lives(findings: dict[str, dict]) -> None:
    assert not {name: page["refused"] for name, page in findings.items() if page["refused"]}
    assert {widget for page in findings.values() for widget in page["widgets"]} == WIDGETS


def test_search_finds_a_page(visit: Visit) -> None:
    visit.open("search.html?q=mixture")
    visit.page.wait_for_selector("#search-results li a", timeout=15_000)
    assert visit.page.locator("#search-results li a").count() > 1
    # From disk, a browser lets no script read the pages found: hits come without excerpts.
    assert not visit.faults or visit.home.startswith("file:")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone_and_follows_its_theme(
    browser: Browser, server: str, site: Path, scheme: str
) -> None:
    visit = Visit(browser, server, PHONE)
    visit.page.emulate_media(color_scheme=scheme)
    wide, wrong = {}, []
    for name in names(site):
        visit.open(name)
        page = visit.look()
        if page["width"] > PHONE["width"]:
            wide[name] = page["width"]
        if page["light"] != (scheme == "light"):
            wrong.append(name)
    visit.context.close()
    assert not wide
    assert not wrong, f"not {scheme}"
