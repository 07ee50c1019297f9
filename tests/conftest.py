"""What several test files share."""

from pathlib import Path

import pytest

from wmlib.collect import generate_rollouts

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten episodes of the counting environment, 8 to 14 steps long. Do not write."""
    folder = tmp_path_factory.mktemp("counted")
    generate_rollouts(folder, "counting_env:Counting-v0", 10, 50, num_workers=1, display=False)
    return folder


@pytest.fixture(scope="session")
def site() -> Path:
    """The built book."""
    built = ROOT / "_build" / "html"
    if not (built / "index.html").is_file():
        pytest.fail("The book is not built: run `make book` first, or `make test` for everything.")
    return built
