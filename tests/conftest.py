"""What several test files share."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def site() -> Path:
    """The built book."""
    built = ROOT / "_build" / "html"
    if not (built / "index.html").is_file():
        pytest.fail("The book is not built: run `make book` first, or `make test` for everything.")
    return built
