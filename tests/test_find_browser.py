"""A browser is found, or fetched, or asked for in one line: never 72 errors later."""

import os
import re
import subprocess
import sys
from pathlib import Path

import find_browser
import pytest

RUNS, BROKEN = "#!/bin/sh\necho Chromium 1\n", "#!/bin/sh\necho a snap is needed >&2\nexit 1\n"


def put(path: Path, text: str) -> Path:
    """A program of a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing is installed; the folder is its whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "playwright"))
    return folder


def test_the_one_on_the_path_is_found(bare: Path) -> None:
    assert find_browser.find() is None
    google = put(bare / "google-chrome", RUNS)
    assert find_browser.find() == str(google)
    chromium = put(bare / "chromium", RUNS)
    assert find_browser.find() == str(chromium)


def test_one_that_does_not_start_is_passed_over(bare: Path) -> None:
    put(bare / "chromium-browser", BROKEN)
    assert find_browser.find() is None
    google = put(bare / "google-chrome", RUNS)
    assert find_browser.find() == str(google)


def test_playwrights_own_is_found(bare: Path) -> None:
    *_, own = find_browser.candidates()
    assert own.startswith(os.environ["PLAYWRIGHT_BROWSERS_PATH"])
    put(Path(own), RUNS)
    assert find_browser.find() == own


def test_it_is_fetched_one_way_or_the_other(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = put(bare / "fails", "#!/bin/sh\nexit 1\n")
    install = put(
        bare / "install",
        "#!/bin/sh\n"
        f"[ $DEBIAN_FRONTEND = noninteractive ] && /bin/mv {bare}/kept {bare}/chromium\n",
    )
    put(bare / "kept", RUNS)
    monkeypatch.setattr(
        find_browser, "ways", lambda: [[[str(fails)], ["never reached"]], [[str(install)]]]
    )
    assert find_browser.fetch() == str(bare / "chromium")


def test_only_root_uses_the_systems_packages(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def first_words() -> list[str]:
        return [commands[0][0] for commands in find_browser.ways()]

    own = [sys.executable]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert first_words() == own  # no apt-get here
    put(bare / "apt-get", RUNS)
    assert first_words() == ["apt-get", *own]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert first_words() == own


def test_without_any_it_ends_in_one_line_that_says_what_to_install(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find_browser, "ways", lambda: [[["/bin/false"]]])
    with pytest.raises(SystemExit) as ended:
        find_browser.main()
    said = str(ended.value)
    assert "\n" not in said
    assert "apt-get install chromium" in said
    assert "playwright install chromium" in said


def test_without_a_driver_it_ends_in_one_line_that_says_what_to_install(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bare / "chromium", RUNS)
    lacks = "node: error while loading shared libraries: libatomic.so.1"
    python = put(bare / "python", f"#!/bin/sh\necho '{lacks}' >&2\nexit 127\n")
    monkeypatch.setattr(sys, "executable", str(python))
    assert find_browser.find() is None
    with pytest.raises(SystemExit) as ended:
        find_browser.main()
    said = str(ended.value)
    assert "\n" not in said
    assert lacks in said
    assert "apt-get install libatomic1" in said


def test_it_is_the_first_thing_that_make_test_does(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^test: \$\(VENV\)/\.dev\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe.splitlines()[0].strip() == "$(BIN)/python tests/find_browser.py"
    assert "make test" in (root / ".ci" / "run").read_text(encoding="utf-8")


def test_it_says_what_it_found(root: Path) -> None:
    command = [sys.executable, str(root / "tests" / "find_browser.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"Browser of the tests: \S.*\n", done.stdout)
