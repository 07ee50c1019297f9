"""The widgets in Firefox, where there is one: driven over Marionette, its own remote control."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_widgets_browser import LARGE, SMALL, assert_shows, book, server, world

from wmlib.world import WorldModel

__all__ = ["book", "server", "world"]  # fixtures

pytestmark = pytest.mark.slow

EXECUTABLE = shutil.which("firefox") or shutil.which("firefox-esr")


class Firefox:
    """Just enough of the Marionette protocol: messages are ``length:[type, id, name, content]``."""

    def __init__(self, port: int) -> None:
        until = time.monotonic() + 120
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.3)
        self.count = 0
        self.receive()  # its greeting
        self.send("WebDriver:NewSession", {"capabilities": {}})
        self.send("WebDriver:SetTimeouts", {"script": 120_000, "pageLoad": 120_000})

    def send(self, name: str, parameters: dict[str, object]) -> dict[str, object]:
        self.count += 1
        body = json.dumps([0, self.count, name, parameters]).encode()
        self.socket.sendall(f"{len(body)}:".encode() + body)
        _, _, error, result = self.receive()
        assert error is None, error
        return result

    def receive(self) -> list:
        digits = b""
        while not digits.endswith(b":"):
            digits += self.socket.recv(1)
        length, body = int(digits[:-1]), b""
        while len(body) < length:
            body += self.socket.recv(length - len(body))
        return json.loads(body)

    def open(self, url: str) -> None:
        self.send("WebDriver:Navigate", {"url": url})

    def run(self, script: str, *arguments: object) -> object:
        """The value of an asynchronous function's body."""
        call = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...arguments) => {{{script}}})(...arguments).then(done);"
        )
        result = self.send("WebDriver:ExecuteAsyncScript", {"script": call, "args": arguments})
        return result["value"]


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    if EXECUTABLE is None:
        pytest.skip("no Firefox on the PATH")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    profile = tmp_path_factory.mktemp("firefox")
    (profile / "user.js").write_text(f'user_pref("marionette.port", {port});\n')
    command = [EXECUTABLE, "--headless", "--no-remote", "--marionette", "--profile", str(profile)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield Firefox(port)
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("place", ["http", "file"])
def test_every_widget_lives_in_firefox(
    place: str, firefox: Firefox, request: pytest.FixtureRequest, book: Path, world: WorldModel
) -> None:
    home = book.as_uri() if place == "file" else request.getfixturevalue("server")
    firefox.open(f"{home}/widgets.html")
    faults = firefox.run(
        """const until = Date.now() + 60000;
        const find = (name) => document.querySelector(`.wm[data-widget=${name}]`);
        const all = () => arguments[0].map(find);
        while (Date.now() < until && !all().every((root) => root?.dataset.ready))
            await new Promise((go) => setTimeout(go, 100));
        return all().map((root) => root?.dataset.ready ? "" : root?.textContent ?? "not there");""",
        LARGE + SMALL,
    )
    assert not any(faults)
    before, z, data = firefox.run(
        """const root = document.querySelector(".wm[data-widget=LatentExplorer]");
        const before = root.dataset.z, seen = root.dataset.frame;
        const input = root.querySelector(".wm-chosen input[type=range]");
        input.value = -2.5;
        input.dispatchEvent(new Event("input"));
        while (root.dataset.frame === seen) await new Promise(requestAnimationFrame);
        const pixels = root.querySelector("canvas").getContext("2d").getImageData(0, 0, 64, 64);
        return [JSON.parse(before), JSON.parse(root.dataset.z), Array.from(pixels.data)];"""
    )
    shown = np.array(data, dtype=float).reshape(64, 64, 4)[..., :3]
    assert_shows(shown, world, z, wrong=before)
    before, z, data = firefox.run(
        """const root = document.querySelector(".wm[data-widget=DreamPlayer]");
        const before = root.dataset.z;
        for (let i = 0; i < 10; i++) root.wm.step();
        const pixels = root.querySelector("canvas").getContext("2d").getImageData(0, 0, 64, 64);
        return [JSON.parse(before), JSON.parse(root.dataset.z), Array.from(pixels.data)];"""
    )
    shown = np.array(data, dtype=float).reshape(64, 64, 4)[..., :3]
    assert_shows(shown, world, z, wrong=before)
