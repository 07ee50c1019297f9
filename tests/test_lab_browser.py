"""Chapter 03 as a learner has it: opened in JupyterLab, run, and its sliders moved."""

import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from test_widgets_browser import (
    Visit,
    _patient,
    assert_shows,
    chosen,
    dataset,
    patience,
    pixels,
    ready,
    run_all,
    serve_lab,
    settled,
    world,
)

from wmlib.world import WorldModel

__all__ = ["_patient", "world"]  # fixtures

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
DESKTOP = {"width": 1280, "height": 900}
PIXELS = """image => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.getContext("2d").drawImage(image, 0, 0);
    const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return Array.from(all);
}"""


@pytest.fixture(scope="module")
def chapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the chapter with nothing in it that was not just computed."""
    found = sorted(FOLDER.glob("03_*.ipynb"))
    assert found, f"there is no chapter 03 in {FOLDER}"
    notebook = nbformat.read(found[0], as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    path = tmp_path_factory.mktemp("lab") / found[0].name
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="module")
def lab(chapter: Path, browser: Browser) -> Iterator[Page]:
    with serve_lab(chapter.parent) as home:
        visit = Visit(browser, home, viewport=DESKTOP)
        run_all(visit, chapter.name)
        yield visit.page
        assert not visit.external
        visit.context.close()


def seen(lab: Page, selector: str) -> Locator:
    """Look through the notebook, as one does, until it comes into view."""
    found = lab.locator(selector).first
    middle = lab.locator(".jp-NotebookPanel:visible").bounding_box()
    lab.mouse.move(middle["x"] + 30, middle["y"] + middle["height"] / 2)
    until = time.monotonic() + 120 * patience()
    while not found.count():
        for direction in (-1, 1):
            for _ in range(40):
                if found.count():
                    break
                lab.mouse.wheel(0, direction * 600)
                lab.wait_for_timeout(100)
        assert time.monotonic() < until, f"{selector} never came into view"
    found.scroll_into_view_if_needed()
    return found


def test_a_slider_of_the_page_moves_the_picture(lab: Page, world: WorldModel) -> None:
    seen(lab, ".wm[data-widget=LatentExplorer]")
    root = ready(lab, "LatentExplorer", timeout=120_000 * patience())
    before, name = dataset(root, "z"), chosen(root)
    old = pixels(root)
    latent = int(name.split()[1])
    value = -2.5 if before[latent] > 0 else 2.5
    settled(root, lambda: root.get_by_label(name, exact=True).fill(str(value)))
    z = dataset(root, "z")
    assert z[latent] == value
    assert_shows(pixels(root), world, z, wrong=before)
    assert (pixels(root) != old).mean() > 0.5


def test_a_slider_of_the_kernel_moves_the_picture(lab: Page) -> None:
    image = seen(lab, "img.widget-image, .widget-image img")
    box = image.locator("xpath=ancestor::*[contains(@class, 'widget-hbox')][1]")
    handle, reading = box.locator(".noUi-handle").first, box.locator(".widget-readout").first

    def press(key: str) -> np.ndarray:
        """What the picture shows once the kernel has answered."""
        source = image.get_attribute("src")
        before = reading.inner_text()
        handle.press(key)
        expect(reading).not_to_have_text(before)
        expect(image).not_to_have_attribute("src", source, timeout=15_000 * patience())
        image.evaluate("image => image.decode()")
        return np.array(image.evaluate(PIXELS))

    lowest, highest = press("Home"), press("End")
    assert (lowest != highest).mean() > 0.01
    np.testing.assert_array_equal(press("Home"), lowest)


def saved(chapter: Path) -> list[nbformat.NotebookNode]:
    """The code cells on disk; none while JupyterLab is writing them."""
    try:
        cells = nbformat.read(chapter, as_version=4).cells
    except nbformat.reader.NotJSONError:
        return []
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def test_the_whole_chapter_ran(lab: Page, chapter: Path) -> None:
    until = time.monotonic() + 120 * patience()
    while True:
        lab.keyboard.press("Escape")
        lab.keyboard.press("ControlOrMeta+s")
        lab.wait_for_timeout(1000)
        cells = saved(chapter)
        if cells and all(cell.execution_count for cell in cells):
            break
        assert time.monotonic() < until, "cells are still waiting to run"
    wrong = [
        cell.source
        for cell in cells
        if any(output.output_type == "error" for output in cell.outputs)
        != ("raises-exception" in cell.metadata.get("tags", []))
    ]
    assert not wrong
