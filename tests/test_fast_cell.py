"""The fast cell: the plain one is the oracle."""

import pytest
import torch

from wmlib import MDRNN, MDRNNCell
from wmlib.fast.cell import FusedCell

L, A, H, K = 32, 3, 256, 5


@pytest.fixture(scope="module")
def cell() -> MDRNNCell:
    torch.manual_seed(0)
    return MDRNN(L, A, H, K).to_cell()


@torch.no_grad()
def rolled(cell: MDRNNCell, steps: int = 50, rows: int = 7) -> list[torch.Tensor]:
    """Everything that a cell says after some steps."""
    generator = torch.Generator().manual_seed(1)
    hidden = cell.get_init_hidden(rows)
    for _ in range(steps):
        action = torch.rand(rows, A, generator=generator)
        z = torch.randn(rows, L, generator=generator)
        *told, hidden = cell(action, z, hidden)
    return [*told, *hidden]


def test_in_float32_it_is_the_cell(cell: MDRNNCell) -> None:
    for found, wanted in zip(rolled(FusedCell(cell, torch.float32)), rolled(cell), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_in_bfloat16_it_stays_close_over_many_steps(cell: MDRNNCell) -> None:
    """bfloat16 has 8 bits: half a percent of the numbers around 1, and no drift."""
    for found, wanted in zip(rolled(FusedCell(cell, torch.bfloat16)), rolled(cell), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)


def test_it_is_a_copy(cell: MDRNNCell) -> None:
    other = MDRNN(L, A, H, K).to_cell()
    fast, before = FusedCell(other), rolled(FusedCell(other))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    for found, wanted in zip(rolled(fast), before, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in fast.parameters())
