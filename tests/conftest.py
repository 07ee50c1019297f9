"""What several test files share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import find_browser
import gymnasium as gym
import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright

from wmlib.collect import generate_rollouts
from wmlib.rollouts import Rollout

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is about a room of wmlib.fast says so by its file's name."""
    for item in items:
        if item.path.name.startswith("test_fast_"):
            item.add_marker("fast")


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
def coarse_rollout() -> Callable[..., Rollout]:
    """Makes episodes of coarse noise, so that even an untrained V tells their frames apart."""

    def make(seed: int, space: gym.spaces.Box, steps: int) -> Rollout:
        rng = np.random.default_rng(seed)
        frames = rng.integers(0, 256, (steps, 4, 4, 3), dtype=np.uint8).repeat(16, 1).repeat(16, 2)
        actions = rng.uniform(space.low, space.high, (steps, *space.shape)).astype(np.float32)
        return Rollout(frames, actions, np.zeros(steps, np.float32), np.zeros(steps, np.float32))

    return make


@pytest.fixture(scope="session")
def site() -> Path:
    """The built book."""
    built = ROOT / "_build" / "html"
    if not (built / "index.html").is_file():
        pytest.fail("The book is not built: run `make book` first, or `make test` for everything.")
    return built


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No product in bfloat16, for comparisons closer than its rounding."""
    monkeypatch.setenv("WMLIB_BF16", "0")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium without a window."""
    path = find_browser.find()
    if path is None:
        pytest.fail("No browser: run python tests/find_browser.py, which gets one or says how.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*find_browser.FLAGS])
        yield browser
        browser.close()
