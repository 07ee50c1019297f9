"""C: a linear map, its flat form, and the way into the action space."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from wmlib.controller import ActionMap, Controller, act_batch, flatten_parameters, load_parameters

CAR = Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# -------------------------------------------------------------------------------- the model


def test_the_papers_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in Controller(32, 256, 3).parameters()) == 867


def test_shapes() -> None:
    assert Controller(32, 256, 3)(torch.randn(4, 32), torch.randn(4, 256)).shape == (4, 3)


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


# ------------------------------------------------------------------------------- the actions


def test_a_zero_output_is_a_car_that_moves() -> None:
    """A generic squash into [0, 1] would brake at ½, and the search start on a plateau."""
    assert ActionMap(CAR)(torch.zeros(1, 3)).tolist() == [[0, 0.5, 0]]


def test_the_cars_map() -> None:
    x = torch.tensor([[-0.3, 1.2, 0.7], [2.0, -3.0, -0.7]])
    steer, gas, brake = ActionMap(CAR)(x).T
    torch.testing.assert_close(steer, x[:, 0].tanh())
    torch.testing.assert_close(gas, 1 / (1 + (-x[:, 1]).exp()))
    torch.testing.assert_close(brake, torch.tensor([np.tanh(0.7), 0.0], dtype=torch.float32))


@pytest.mark.parametrize(
    "space",
    [
        CAR,
        Box(-2, 2, (1,)),
        Box(np.float32([-0.1, 5, -3]), np.float32([0.7, 5.3, 11])),
        Box(0, 1, (2, 2), dtype=np.float64),
    ],
)
def test_every_output_is_an_action_of_a_bounded_box(space: Box) -> None:
    """Within the bounds to the last bit, and reaching both."""
    actions = ActionMap(space)
    outputs = torch.cat([10 * torch.randn(200, actions.size), torch.full((1, actions.size), 1e9)])
    outputs = torch.cat([outputs, -outputs])
    told = actions(outputs)
    executed = actions.to_env(told.numpy())
    assert executed.shape == (len(outputs), *space.shape)
    assert all(space.contains(action) for action in executed)
    np.testing.assert_array_equal(executed.max(0), space.high)
    np.testing.assert_array_equal(executed.min(0), space.low)


def test_zero_is_the_middle_of_a_bounded_box() -> None:
    space = Box(np.float32([-2, 0]), np.float32([1, 3]))
    torch.testing.assert_close(ActionMap(space)(torch.zeros(1, 2)), torch.tensor([[-0.5, 1.5]]))


def test_unbounded_sides_stay_as_they_are() -> None:
    space = Box(np.float32([-np.inf, 0]), np.float32([np.inf, np.inf]))
    actions = ActionMap(space)
    assert not actions.is_bounded
    assert actions(torch.tensor([[-7.0, -7.0], [7.0, 7.0]])).tolist() == [[-7, 0], [7, 7]]


def test_discrete_actions_are_arg_maxed_and_told_one_hot() -> None:
    actions = ActionMap(Discrete(4))
    told = actions(torch.tensor([[0.1, 3.0, -1.0, 2.0], [5.0, 0.0, 0.0, 4.0]]))
    assert told.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]
    assert actions.to_env(told.numpy()).tolist() == [1, 0]


def test_a_discrete_space_may_start_elsewhere() -> None:
    actions = ActionMap(Discrete(4, start=-1))
    executed = actions.to_env(np.eye(4, dtype=np.float32))
    assert executed.tolist() == [-1, 0, 1, 2]
    assert all(actions.space.contains(action) for action in executed)
    np.testing.assert_array_equal(actions.from_env(executed), np.eye(4))


@pytest.mark.parametrize("space", [CAR, Box(-2, 2, (1,)), Box(0, 1, (2, 2)), Discrete(5)])
def test_what_the_environment_takes_and_what_m_is_told_are_one(space: gym.Space) -> None:
    space.seed(0)
    actions = ActionMap(space)
    executed = np.stack([space.sample() for _ in range(20)])
    told = actions.from_env(executed)
    assert (told.shape, told.dtype) == ((20, actions.size), np.float32)
    np.testing.assert_array_equal(actions.to_env(told), executed)


def test_m_is_told_the_clipped_action_fault_15() -> None:
    """Fault 15: the environment clips the action, and M is given the unclipped one."""
    told = ActionMap(CAR).from_env(np.array([[-3.0, 0.5, -0.2], [0.1, 7.0, 2.0]]))
    np.testing.assert_allclose(told, [[-1, 0.5, 0], [0.1, 1, 1]])


@pytest.mark.parametrize(
    ("name", "kwargs", "size"),
    [
        ("CarRacing-v3", {}, 3),
        ("CarRacing-v3", {"continuous": False}, 5),
        ("LunarLander-v3", {}, 4),
        ("Pendulum-v1", {}, 1),
    ],
)
def test_sizes_of_known_environments(name: str, kwargs: dict, size: int) -> None:
    env = gym.make(name, **kwargs)
    actions = ActionMap(env.action_space)
    assert actions.size == size
    assert actions.is_car == (name == "CarRacing-v3" and not kwargs)
    env.close()


def test_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MultiDiscrete\(\[2 3\]\) is not supported: Box and"):
        ActionMap(gym.spaces.MultiDiscrete([2, 3]))


def test_whole_numbers_share_the_range_equally() -> None:
    """The paper's Doom: below -1/3 left, above 1/3 right, else stay; zero output stays."""
    actions = ActionMap(gym.spaces.Box(-1, 1, (1,), np.int8))
    tanh = torch.tensor([-0.999999, -0.34, -0.33, 0.0, 0.33, 0.34, 0.999999])
    outputs = torch.cat([tanh.atanh(), torch.tensor([-99.0, 99.0])])[:, None]
    told = actions(outputs)
    assert told.flatten().tolist() == [-1, -1, 0, 0, 0, 1, 1, -1, 1]
    executed = actions.to_env(told.numpy())
    assert executed.dtype == np.int8
    assert all(actions.space.contains(action) for action in executed)
    np.testing.assert_array_equal(actions.from_env(executed), told.numpy())
