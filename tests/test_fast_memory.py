"""Memory that is kept: what is asked of the system, and when nothing is."""

import ctypes
import sys
from types import SimpleNamespace

import pytest

from wmlib.fast.memory import keep_freed_memory

ask = keep_freed_memory.__wrapped__  # without the cache: it asks once in a process


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the system is asked for; nothing is done."""
    calls: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *call: calls.append(call))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    return calls


def test_blocks_up_to_a_gigabyte_are_kept(asked: list[tuple[int, int]]) -> None:
    ask()
    assert asked == [(-1, 2**30), (-3, 2**30)]  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h


def test_the_systems_own_setting_wins(
    asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    ask()
    assert asked == []


def test_other_systems_are_left_alone(
    asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    ask()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())  # a library without it
    ask()
    assert asked == []
