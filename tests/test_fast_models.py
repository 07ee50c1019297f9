"""Models computed sooner: the plain ones are the oracle, and their weights stay what they are."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from wmlib import MDRNN, ConvVAE, MDRNNCell
from wmlib.devices import quicken
from wmlib.fast.cell import FusedCell
from wmlib.fast.convolution import UpConv2d
from wmlib.vae import conv_vae_loss_fn, vae_from_state

L, A, H, K = 8, 3, 64, 5


@pytest.fixture
def vaes() -> tuple[ConvVAE, ConvVAE]:
    """A plain V and a quick one of the same weights."""
    torch.manual_seed(0)
    plain, quick = ConvVAE(3, L), ConvVAE(3, L)
    quick.load_state_dict(plain.state_dict())
    return plain, quicken(quick)


@pytest.fixture
def cell() -> MDRNNCell:
    torch.manual_seed(0)
    return MDRNN(L, A, H, K).to_cell().eval()


def same_weights(one: nn.Module, other: nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key].to(value.dtype), value, rtol=0.005, atol=0)


def test_a_decoder_gives_the_same_frames_in_float32(vaes: tuple[ConvVAE, ConvVAE]) -> None:
    plain, quick = vaes
    layers = [getattr(quick.decoder, f"deconv{i}") for i in (1, 2, 3, 4)]
    assert all(type(layer) is UpConv2d for layer in layers)
    z = torch.randn(5, L)
    torch.testing.assert_close(quick.decoder(z), plain.decoder(z), rtol=1e-5, atol=1e-6)


def test_v_learns_the_same_from_a_batch(vaes: tuple[ConvVAE, ConvVAE]) -> None:
    x, losses = torch.rand(4, 3, 64, 64), []
    for vae in vaes:
        torch.manual_seed(1)
        recon, mu, logsigma = vae(x)
        losses.append(conv_vae_loss_fn(recon, x, mu, logsigma))
        losses[-1].backward()
    torch.testing.assert_close(*losses)
    plain, quick = (dict(vae.named_parameters()) for vae in vaes)
    assert plain.keys() == quick.keys()
    for key, parameter in plain.items():
        torch.testing.assert_close(quick[key].grad, parameter.grad, rtol=1e-3, atol=1e-4)


def test_vs_weights_keep_their_names_and_go_back_and_forth(vaes: tuple[ConvVAE, ConvVAE]) -> None:
    plain, quick = vaes
    torch.testing.assert_close(quick.state_dict(), plain.state_dict(), rtol=0, atol=0)
    again = vae_from_state(quick.state_dict())
    torch.testing.assert_close(again.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert type(again.decoder.deconv1) is nn.ConvTranspose2d


def test_a_model_is_changed_in_place_and_once(vaes: tuple[ConvVAE, ConvVAE]) -> None:
    _, quick = vaes
    assert quicken(quick) is quick
    assert type(quick.decoder.deconv1) is UpConv2d


class Own(nn.ConvTranspose2d):
    """A reader's own layer, which may do anything."""


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(2, 2, 4),
        nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1),
        nn.ConvTranspose2d(2, 2, 4, stride=2, output_padding=1),
        nn.ConvTranspose2d(2, 2, (4, 5), stride=2),
        nn.ConvTranspose2d(2, 2, 4, stride=2, groups=2),
        nn.ConvTranspose2d(2, 2, 4, stride=2, dilation=2),
        nn.ConvTranspose2d(2, 2, 4, stride=2, bias=False),
        nn.ConvTranspose2d(2, 2, 4, stride=(2, 1)),
        Own(2, 2, 4, stride=2),
        nn.Conv2d(2, 2, 4, stride=2),
    ],
    ids=str,
)
def test_layers_of_other_kinds_stay_as_they_are(layer: nn.Module) -> None:
    kind, x = type(layer), torch.randn(1, 2, 6, 6)
    expected = layer(x)
    torch.testing.assert_close(quicken(nn.Sequential(layer))(x), expected, rtol=0, atol=0)
    assert type(layer) is kind


@torch.no_grad()
def told(cell: MDRNNCell, steps: int = 30, rows: int = 6) -> list[Tensor]:
    """Everything that a cell says after some steps."""
    generator, hidden = torch.Generator().manual_seed(1), cell.get_init_hidden(rows)
    for _ in range(steps):
        action = torch.rand(rows, A, generator=generator)
        z = torch.randn(rows, L, generator=generator)
        *said, hidden = cell(action, z, hidden)
    return [*said, *hidden]


@pytest.mark.usefixtures("float32")
def test_a_cell_says_the_same_in_float32(cell: MDRNNCell) -> None:
    for found, wanted in zip(told(quicken(cell)), told(cell), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_cell_says_nearly_the_same_in_bfloat16(
    cell: MDRNNCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wmlib.fast.cell.has_bf16", lambda device: True)
    quick = quicken(cell)
    assert isinstance(quick, FusedCell)
    assert quick.weight.dtype == torch.bfloat16
    found, wanted = told(quick), told(cell)
    assert not torch.equal(found[0], wanted[0])
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("units", [True, False])
def test_a_cells_weights_keep_their_names(
    cell: MDRNNCell, monkeypatch: pytest.MonkeyPatch, units: bool
) -> None:
    monkeypatch.setattr("wmlib.fast.cell.has_bf16", lambda device: units)
    quick = quicken(cell)
    assert quick is not cell
    same_weights(quick, cell)
    plain = MDRNNCell(L, A, H, K)
    plain.load_state_dict(quick.state_dict())
    same_weights(plain, cell)


def test_a_quick_cell_is_not_the_one_that_is_trained(cell: MDRNNCell) -> None:
    quick = quicken(cell)
    assert not any(parameter.requires_grad for parameter in quick.parameters())
    assert all(parameter.requires_grad for parameter in cell.parameters())


@pytest.mark.parametrize("rnn", [nn.GRUCell, nn.RNNCell])
def test_a_readers_own_cell_steps_itself(
    cell: MDRNNCell, rnn: Callable[[int, int], nn.Module]
) -> None:
    cell.rnn = rnn(A + L, H)
    assert quicken(cell) is cell
