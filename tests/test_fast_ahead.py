"""Batches read ahead: the same ones, in the same order, and no fault is lost."""

import threading
from collections.abc import Iterator

import pytest

from wmlib.fast.ahead import read_ahead


def test_the_batches_are_the_same_and_in_order() -> None:
    assert list(read_ahead(iter(range(1, 20)))) == list(range(1, 20))
    assert list(read_ahead(iter([]))) == []


def test_the_next_one_is_read_while_the_one_before_is_at_work() -> None:
    read = threading.Event()

    def batches() -> Iterator[int]:
        yield 1
        read.set()
        yield 2

    coming = read_ahead(batches())
    assert next(coming) == 1
    assert read.wait(timeout=10)  # though nobody has asked for it
    assert list(coming) == [2]


def test_a_fault_in_reading_reaches_whoever_asks() -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise ValueError("no batch")

    coming = read_ahead(batches())
    assert next(coming) == 1
    with pytest.raises(ValueError, match="no batch"):
        next(coming)
