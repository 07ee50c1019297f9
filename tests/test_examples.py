"""The examples in docstrings: every one of them is run, and says what it says it says."""

import doctest
import importlib
import pkgutil
import random

import numpy as np
import pytest
import torch

import wmlib

ROOMS = ["wmlib", *(room.name for room in pkgutil.walk_packages(wmlib.__path__, "wmlib."))]
EXAMPLES = [
    example
    for room in ROOMS
    for example in doctest.DocTestFinder().find(importlib.import_module(room))
    if example.examples
]


def test_there_are_examples() -> None:
    """In all of the paper's rooms, and in those that people look at."""
    rooms = {example.globs["__name__"] for example in EXAMPLES}
    paper = {"wmlib.vae", "wmlib.mixture", "wmlib.mdrnn", "wmlib.controller", "wmlib.search"}
    assert paper | {"wmlib.envs", "wmlib.show.plots", "wmlib.show.widgets"} <= rooms


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_examples_in_docstrings_run(
    example: doctest.DocTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook: with what the package's front door gives, and nothing shown on a screen."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(0)
    told: list[str] = []
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.DocTestRunner(optionflags=options).run(example, out=told.append)
    assert results.failed == 0, "".join(told)
