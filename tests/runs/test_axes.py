"""Coordinates of C: what a step along them does is worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from carracing import rooms

from wmlib import Controller, load_parameters

(axes_room,) = rooms("axes")
Axes = axes_room.Axes

SPREAD = np.array([4.0, 1.0, 0.25, 1.0])  # of three inputs; the last is the bias's 1


@pytest.fixture
def turn() -> np.ndarray:
    """Directions that are no input's own."""
    return np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5])
def test_a_step_changes_outputs_by_its_size(turn: np.ndarray, power: float) -> None:
    moments = turn @ np.diag(SPREAD**2) @ turn.T
    axes = Axes.of(moments, power)
    for row, (direction, step) in enumerate(zip(axes.directions.T, axes.steps, strict=True)):
        variance = direction @ moments @ direction
        share = variance ** (1 - 2 * power) / (SPREAD ** (2 - 4 * power)).sum()
        assert step**2 * variance == pytest.approx(share), row
    noise = np.random.default_rng(1).normal(0, 0.3, (20_000, 2 * 4))
    flat = axes(noise)
    assert flat.shape == noise.shape
    rows = np.concatenate([flat[:, :6].reshape(-1, 2, 3), flat[:, 6:, None]], axis=2)
    changes = np.einsum("nai,ij,naj->na", rows, moments, rows)
    np.testing.assert_allclose(np.sqrt(changes.mean(axis=0)), 0.3, rtol=0.02)


def test_flat_parameters_are_the_controllers(turn: np.ndarray) -> None:
    axes = Axes.of(turn @ np.diag(SPREAD) @ turn.T)
    coordinates = np.random.default_rng(2).standard_normal(8)
    controller = Controller(3, 0, 2)
    load_parameters(axes(coordinates), controller)
    inputs = np.random.default_rng(3).standard_normal((5, 3))
    along = np.c_[inputs, np.ones(5)] @ axes.directions * axes.steps
    with torch.no_grad():
        outputs = controller(torch.from_numpy(inputs).float())
    np.testing.assert_allclose(outputs, along @ coordinates.reshape(2, 4).T, atol=1e-5)


def test_along_what_never_varies_there_is_no_step() -> None:
    axes = Axes.of(np.diag([2.0, 0.0, -1e-18, 1.0]))
    assert sorted(axes.steps > 0) == [False, False, True, True]
    flat = axes(np.random.default_rng(5).standard_normal(8))
    np.testing.assert_array_equal(flat[[1, 2, 4, 5]], 0)
    assert np.all(flat[[0, 3, 6, 7]] != 0)


def test_they_are_the_same_when_read_again(turn: np.ndarray, tmp_path: Path) -> None:
    axes = Axes.of(turn @ np.diag(SPREAD) @ turn.T)
    axes.save(tmp_path / "axes.npz")
    coordinates = np.random.default_rng(4).standard_normal((3, 8))
    read = Axes.load(tmp_path / "axes.npz")
    np.testing.assert_array_equal(read(coordinates), axes(coordinates))
