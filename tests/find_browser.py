"""The browser that the tests drive: found, or fetched, or asked for in one line.

``python tests/find_browser.py`` prints where it is. ``make test`` and ``.ci/run`` begin with it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = (
    "No browser for the tests: neither {names} on the PATH nor Playwright's own runs, and none "
    "could be fetched. Install one (Debian, Ubuntu: sudo apt-get install chromium; elsewhere: "
    "{python} -m playwright install chromium), then run make test again."
)
UNDRIVEN = (
    "No driver for the browser of the tests: {python} -m playwright says '{error}'. Install what "
    "it lacks (Debian, Ubuntu: sudo apt-get install libatomic1), then run make test again."
)


def candidates() -> Iterator[str]:
    """Where a browser may be: on the PATH, or in Playwright's folder."""
    yield from filter(None, map(shutil.which, NAMES))
    with sync_playwright() as playwright:
        yield playwright.chromium.executable_path


def runs(path: str) -> bool:
    """Whether it starts: Ubuntu's ``chromium-browser`` may only say that there is a snap."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def driver_error() -> str | None:
    """Why Playwright's driver does not start: a bare Debian lacks a library of its Node.js."""
    command = [sys.executable, "-m", "playwright", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    return next(filter(None, done.stderr.splitlines()), f"nothing, and ends with {done.returncode}")


def find() -> str | None:
    """The path of a browser that runs, if there is one and it can be driven."""
    return None if driver_error() else next(filter(runs, candidates()), None)


def ways() -> Iterator[list[list[str]]]:
    """How to get one: the system's package, for whom may install it; then Playwright's own."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        install = ["apt-get", "install", "-y", "--no-install-recommends"]
        # The driver's library first, and alone: not every system has a package of the browser.
        yield [["apt-get", "update"], [*install, "libatomic1"], [*install, "chromium"]]
    yield [[sys.executable, "-m", "playwright", "install", "chromium"]]


def fetch() -> str | None:
    """Try each way in turn, until a browser runs; what the commands print goes to stderr."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for commands in ways():
        for command in commands:
            print(f"No browser yet: {' '.join(command)}", file=sys.stderr, flush=True)
            if subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
                break
        path = find()
        if path:
            return path
    return None


def main() -> None:
    path = find() or fetch()
    if path is None:
        error = driver_error()
        if error:
            sys.exit(UNDRIVEN.format(error=error, python=sys.executable))
        sys.exit(MISSING.format(names=", ".join(NAMES), python=sys.executable))
    print(f"Browser of the tests: {path}")


if __name__ == "__main__":
    main()
