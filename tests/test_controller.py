"""C: a linear map, and its flat form."""

import numpy as np
import pytest
import torch
from torch import nn

from wmlib.controller import (
    Controller,
    act_batch,
    controller_from_state,
    flatten_parameters,
    load_parameters,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# -------------------------------------------------------------------------------- the model


def test_the_papers_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in Controller(32, 256, 3).parameters()) == 867


def test_shapes() -> None:
    assert Controller(32, 256, 3)(torch.randn(4, 32), torch.randn(4, 256)).shape == (4, 3)


@pytest.mark.parametrize(("hidden_size", "parameters"), [(0, 99), (256, 867), (512, 1635)])
def test_it_may_see_none_of_m_or_h_or_h_and_c(hidden_size: int, parameters: int) -> None:
    controller, z = Controller(32, hidden_size, 3), torch.randn(4, 32)
    assert sum(parameter.numel() for parameter in controller.parameters()) == parameters
    seen = controller(z, torch.randn(4, hidden_size)) if hidden_size else controller(z)
    assert seen.shape == (4, 3)


def test_z_comes_before_h() -> None:
    controller, z, h = Controller(4, 6, 3), torch.randn(2, 4), torch.randn(2, 6)
    joined = torch.cat([z, h], dim=-1)
    torch.testing.assert_close(controller(z, h), controller(joined), rtol=0, atol=0)
    expected = joined @ controller.fc.weight.T + controller.fc.bias
    torch.testing.assert_close(controller(joined), expected)


def test_it_is_linear_without_an_activation() -> None:
    controller, x = Controller(4, 6, 3), torch.randn(2, 10)
    shift = controller(torch.zeros(1, 10))
    torch.testing.assert_close(controller(50 * x) - shift, 50 * (controller(x) - shift))


def test_inference_needs_no_gradient() -> None:
    controller = Controller(4, 6, 3).eval()
    with torch.inference_mode():
        assert not controller(torch.randn(1, 4), torch.randn(1, 6)).requires_grad


def test_every_parameter_gets_a_gradient() -> None:
    controller, z = Controller(4, 6, 3), torch.randn(2, 4, requires_grad=True)
    controller(z, torch.randn(2, 6)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in controller.parameters())
    assert z.grad.abs().sum() > 0


def test_names_of_the_state_dict() -> None:
    shapes = {name: tuple(v.shape) for name, v in Controller(32, 256, 3).state_dict().items()}
    assert shapes == {"fc.weight": (3, 288), "fc.bias": (3,)}


def test_its_sizes_come_from_its_weights() -> None:
    controller = Controller(4, 6, 3)
    again = controller_from_state(controller.state_dict())
    x = torch.randn(2, 10)
    torch.testing.assert_close(again(x), controller(x), rtol=0, atol=0)
    assert not again.training


@pytest.mark.parametrize("model", [nn.Conv2d(1, 2, 3), nn.Linear(4, 2), nn.BatchNorm1d(2)])
def test_weights_of_another_model_are_refused(model: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"best\.tar holds no controller: fc\.weight"):
        controller_from_state(model.state_dict(), "best.tar")


# --------------------------------------------------------------------------- flat parameters


def mlp() -> nn.Module:
    """A reader's own controller: [z, h] of 10 to 3 outputs."""
    return nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize("make", [lambda: Controller(4, 6, 3), mlp])
def test_parameters_go_flat_and_back(make) -> None:
    one, two = make(), make()
    flat = flatten_parameters(one.parameters())
    assert flat.ndim == 1
    assert flat.dtype == np.float64
    assert load_parameters(flat, two) is two
    torch.testing.assert_close(two.state_dict(), one.state_dict(), rtol=0, atol=0)


def test_the_flat_order_is_torchs_own() -> None:
    controller = Controller(4, 6, 3)
    expected = nn.utils.parameters_to_vector(controller.parameters()).detach().double().numpy()
    np.testing.assert_array_equal(flatten_parameters(controller.parameters()), expected)


def test_a_flat_vector_is_a_copy() -> None:
    controller = Controller(4, 6, 3)
    flat = flatten_parameters(controller.parameters())
    flat[:] = 7
    assert not controller.fc.weight.eq(7).any()
    load_parameters(flat, controller)
    flat[:] = 8
    assert controller.fc.weight.eq(7).all()


@pytest.mark.parametrize("length", [0, 32, 34])
def test_a_vector_of_another_length_names_both(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} values for a controller of 33 parameters"):
        load_parameters(np.zeros(length), Controller(4, 6, 3))


@pytest.mark.parametrize("make", [lambda: Controller(4, 6, 3), mlp])
def test_a_row_of_a_batch_acts_as_its_own_controller(make) -> None:
    """Many controllers at once against each one alone."""
    controllers = [make() for _ in range(5)]
    flat = np.stack([flatten_parameters(c.parameters()) for c in controllers])
    state = torch.randn(5, 10)
    outputs = act_batch(make(), torch.as_tensor(flat, dtype=torch.float32), state)
    expected = torch.stack([c(x) for c, x in zip(controllers, state, strict=True)])
    torch.testing.assert_close(outputs, expected)
