"""Draw the pictures that stand in for the widgets where they cannot run.

``python tests/draw_pictures.py``, after ``python -m wmlib.show.export``; or some of them by name,
``python tests/draw_pictures.py DreamPlayer``.
"""

import json
import re
import sys
from pathlib import Path

import cv2
import find_browser
import numpy as np
from playwright.sync_api import Frame, sync_playwright
from test_widgets_browser import FRAME, LARGE, PLAYERS, SMALL, embed, ready

from wmlib.show import pages, widgets


def stage(page: Frame, name: str) -> None:
    """Bring a widget into a state worth looking at."""
    root = ready(page, name)
    press = root.get_by_role
    if name in PLAYERS:
        press("button", name=re.compile("Let C")).click()
        for _ in range(60):
            press("button", name="Step").click()
    elif name == "RealVsDream":
        page.wait_for_selector("[data-dreamed]")
        root.get_by_label("time", exact=True).fill("110")
    elif name == "MixturePlayground":
        press("button", name="Draw 200 samples").click()
    elif name == "CMAExplorer":
        for _ in range(8):
            press("button", name="Step").click()
    page.wait_for_timeout(1500)


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_browser.find(), args=[*find_browser.FLAGS]
        )
        for name in sys.argv[1:] or LARGE + SMALL:
            widget = getattr(widgets, name)()
            state = {key: v for key, v in widget.get_state().items() if key != "layout"}
            page = browser.new_page(viewport={"width": 760, "height": 900}, color_scheme="light")
            page.set_content("<body style='margin: 0'>")
            source = FRAME % json.dumps([state]).replace("</", "<\\/")
            frame = embed(page, lambda _, asset: answer(asset), source)
            stage(frame, name)
            raw = frame.locator(".wm").screenshot()
            picture = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
            path = pages.STATIC / "pictures" / f"{name}.jpg"
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 72])
            print(f"{Path(path).name}: {path.stat().st_size / 1e3:.0f} KB")
            page.close()
        browser.close()


def answer(name: str) -> str:
    return json.dumps(widgets.LatentExplorer()._asset(name, []))


if __name__ == "__main__":
    main()
