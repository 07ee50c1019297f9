"""V, M and C together: a row of a batch does what it would do alone."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wmlib.agent
from wmlib import Agent, Controller, ConvVAE, MDRNNCell, flatten_parameters
from wmlib.pixels import frames_to_tensor

pytestmark = pytest.mark.usefixtures("float32")
L, H, STEPS = 4, 8, 10
CAR = gym.spaces.Box(np.float32([-1, 0, 0]), np.float32([1, 1, 1]))


class GRUCell(nn.Module):
    """Another memory: one part, h, where the LSTM has two."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRUCell(L + 3, H)

    def get_init_hidden(self, batch: int) -> tuple[Tensor]:
        return (torch.zeros(batch, H),)

    def step(self, action: Tensor, z: Tensor, hidden: tuple[Tensor]) -> tuple[Tensor]:
        return (self.gru(torch.cat([action, z], -1), hidden[0]),)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(L + H, 5), nn.Tanh(), nn.Linear(5, 3))


@pytest.fixture(scope="module")
def vae() -> ConvVAE:
    torch.manual_seed(0)
    vae = ConvVAE(3, L)
    vae.encoder.fc_mu.weight.data *= 200  # untrained, z would hardly differ from frame to frame
    return vae


@pytest.fixture(scope="module")
def cell() -> MDRNNCell:
    torch.manual_seed(1)
    return MDRNNCell(L, 3, H, 2)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """(STEPS, 4, 64, 64, 3): four episodes side by side."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (STEPS, 4, 2, 2, 3), dtype=np.uint8)
    return levels.repeat(32, axis=2).repeat(32, axis=3)


def controllers(controller: nn.Module, count: int) -> np.ndarray:
    """Parameters large enough that every input shows in the actions, yet none is saturated."""
    size = len(flatten_parameters(controller.parameters()))
    return np.random.default_rng(2).normal(0, 0.5, (count, size))


def drive(agent: Agent, frames: np.ndarray, seeds: list[int]) -> np.ndarray:
    """Actions (STEPS, N, A) of episodes that all last equally long."""
    agent.start(seeds)
    rows = np.arange(len(seeds))
    return np.stack([agent.act(now, rows) for now in frames])


def squashed(outputs: Tensor) -> Tensor:
    """CarRacing's actions (B, 3), written out."""
    steer, gas, brake = outputs.unbind(-1)
    return torch.stack([steer.tanh(), gas.sigmoid(), brake.tanh().clamp(0, 1)], dim=-1)


@pytest.mark.parametrize("sees", [0, 1, 2])
def test_one_episode_is_the_loop_of_the_reference_page(
    vae: ConvVAE, cell: MDRNNCell, frames: np.ndarray, sees: int
) -> None:
    """C sees z; z and h; or z, h and c, in this order, as they are before the step."""
    controller = Controller(L, sees * H, 3)
    nn.init.normal_(controller.fc.weight, std=0.5)
    agent, hidden = Agent(vae, cell, controller, CAR), cell.get_init_hidden(1)
    assert agent.sees == sees
    agent.start([0])
    for now in frames[:, 0]:
        with torch.no_grad():
            mu, _ = vae.encoder(frames_to_tensor(now)[None])
            action = squashed(controller(torch.cat([mu, *hidden[:sees]], dim=-1)))
            hidden = cell.step(action, mu, hidden)
        np.testing.assert_allclose(agent(now), action[0], atol=1e-5)
    if sees:  # otherwise nobody asks what M remembers
        for part, wanted in zip(agent.hidden, hidden, strict=True):
            np.testing.assert_allclose(part, wanted, atol=1e-5)


@pytest.mark.parametrize("sample_z", [False, True])
@pytest.mark.parametrize("make", [lambda: Controller(L, H, 3), mlp], ids=["linear", "mlp"])
@pytest.mark.parametrize("memory", ["lstm", "gru"])
def test_a_row_with_its_own_controller_acts_as_it_would_alone(
    vae: ConvVAE,
    cell: MDRNNCell,
    frames: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    sample_z: bool,
    make: type[nn.Module],
    memory: str,
) -> None:
    monkeypatch.setattr(wmlib.agent, "CHUNK", 4)  # so that the noise is drawn more than once
    agent = Agent(vae, cell if memory == "lstm" else GRUCell(), make(), CAR, "cpu", sample_z)
    population = controllers(agent.controller, 4)
    agent.assign(population)
    together = drive(agent, frames, [10, 11, 12, 13])
    assert np.ptp(together, axis=1).max() > 0.1  # the drivers differ
    assert np.ptp(together, axis=0).max() > 0.1  # and react
    for row in range(4):
        agent.assign(population[row : row + 1])
        alone = drive(agent, frames[:, row : row + 1], [10 + row])
        np.testing.assert_allclose(together[:, row], alone[:, 0], atol=1e-5)


@pytest.mark.parametrize("changed", ["controllers", "frames", "seeds"])
def test_a_row_does_not_feel_its_neighbours(
    vae: ConvVAE, cell: MDRNNCell, frames: np.ndarray, changed: str
) -> None:
    agent = Agent(vae, cell, Controller(L, H, 3), CAR, sample_z=True)
    population, seeds, others = controllers(agent.controller, 4), [10, 11, 12, 13], frames.copy()
    agent.assign(population)
    before = drive(agent, frames, seeds)
    if changed == "controllers":
        agent.assign(np.concatenate([population[:1], -population[1:]]))
    elif changed == "frames":
        others[:, 1:] = 255 - others[:, 1:]
    else:
        seeds[1:] = [20, 21, 22]
    after = drive(agent, others, seeds)
    np.testing.assert_allclose(after[:, 0], before[:, 0], atol=1e-6)
    assert not np.allclose(after[:, 1:], before[:, 1:], atol=1e-3)


def test_those_who_go_on_do_not_notice_who_has_ended(
    vae: ConvVAE, cell: MDRNNCell, frames: np.ndarray
) -> None:
    agent = Agent(vae, cell, Controller(L, H, 3), CAR, sample_z=True)
    agent.assign(controllers(agent.controller, 4))
    whole = drive(agent, frames, [10, 11, 12, 13])
    agent.start([10, 11, 12, 13])
    for t, now in enumerate(frames):
        rows = np.arange(4) if t < 3 else np.array([0, 3])
        np.testing.assert_allclose(agent.act(now[rows], rows), whole[t, rows], atol=1e-5)


def test_a_new_episode_begins_with_a_new_memory(
    vae: ConvVAE, cell: MDRNNCell, frames: np.ndarray
) -> None:
    agent = Agent(vae, cell, Controller(L, H, 3), CAR, sample_z=True)
    agent.assign(controllers(agent.controller, 4))
    first = drive(agent, frames, [1, 2, 3, 4])
    assert float(agent.hidden[0].abs().min()) > 0
    np.testing.assert_array_equal(drive(agent, frames, [1, 2, 3, 4]), first)


def test_memory_moves_on_with_every_step(vae: ConvVAE, cell: MDRNNCell, frames: np.ndarray) -> None:
    agent = Agent(vae, cell, Controller(L, H, 3), CAR)
    agent.assign(controllers(agent.controller, 4))
    still = frames[:1].repeat(STEPS, axis=0)  # nothing to see but the same picture
    gas = drive(agent, still, [0] * 4)[..., 1]
    assert (np.diff(gas, axis=0) != 0).mean() > 0.9


def test_noise_is_the_episodes_own_stream(
    vae: ConvVAE, cell: MDRNNCell, frames: np.ndarray
) -> None:
    agent = Agent(vae, cell, Controller(L, H, 3), CAR, sample_z=True)
    agent.start([7, 8])
    agent.act(frames[0, :2], np.arange(2))
    with torch.no_grad():
        mu, logsigma = vae.encoder(frames_to_tensor(frames[0, :2]))
    noise = [np.random.default_rng(seed).standard_normal(L, dtype=np.float32) for seed in (7, 8)]
    np.testing.assert_allclose(
        agent.z, mu + logsigma.exp() * torch.tensor(np.array(noise)), atol=1e-5
    )
    np.testing.assert_allclose(agent.mu, mu, atol=1e-5)


def test_m_is_told_what_the_environment_executes(
    vae: ConvVAE, cell: MDRNNCell, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    step = cell.step
    monkeypatch.setattr(cell, "step", lambda a, z, hidden: told.append(a) or step(a, z, hidden))
    agent = Agent(vae, cell, Controller(L, H, 3), CAR)
    agent.assign(50 * controllers(agent.controller, 4))  # outputs far beyond the bounds
    actions = drive(agent, frames, [0] * 4)
    np.testing.assert_array_equal(actions, torch.stack(told))
    assert (actions >= CAR.low).all()
    assert (actions <= CAR.high).all()
    for now in agent.action_map.to_env(actions[0]):
        assert CAR.contains(now)


def test_without_h_only_the_picture_counts(
    vae: ConvVAE, cell: MDRNNCell, frames: np.ndarray
) -> None:
    agent = Agent(vae, cell, Controller(L, 0, 3), CAR)
    agent.assign(controllers(agent.controller, 4))
    actions = drive(agent, frames[:1].repeat(STEPS, axis=0), [0] * 4)
    np.testing.assert_allclose(actions, np.broadcast_to(actions[:1], actions.shape), atol=1e-6)
    assert not agent.hidden[0].any()


def test_discrete_actions_are_told_one_hot(vae: ConvVAE, frames: np.ndarray) -> None:
    space = gym.spaces.Discrete(3, start=1)
    agent = Agent(vae, MDRNNCell(L, 3, H, 2), Controller(L, H, 3), space)
    agent.assign(controllers(agent.controller, 4))
    actions = drive(agent, frames, [0] * 4)
    np.testing.assert_array_equal(np.sort(actions), np.broadcast_to([0, 0, 1], actions.shape))
    agent.assign(None)
    nn.init.zeros_(agent.controller.fc.weight)
    agent.controller.fc.bias.data = torch.tensor([0.0, 0.0, 1.0])
    agent.start([0])
    assert agent(frames[0, 0]) == 3


@pytest.mark.parametrize(
    ("memory", "controller", "words"),
    [
        (MDRNNCell(L, 3, H, 2), Controller(L, H, 2), r"C's outputs.* 2 and 3"),
        (MDRNNCell(L, 2, H, 2), Controller(L, H, 3), r"M's actions.* 2 and 3"),
        (MDRNNCell(L, 3, H, 2), Controller(L, H + 1, 3), r"C's inputs.* 13 and 12"),
        (MDRNNCell(L, 3, H, 2), Controller(L, 3 * H, 3), r"C's inputs.* 28 and 20"),
        (MDRNNCell(L, 3, H, 2), Controller(L, H - 1, 3), r"C's inputs.* 11 and 4"),
        (MDRNNCell(L, 3, H, 2), Controller(L - 1, 0, 3), r"C's inputs.* 3 and 4"),
        (MDRNNCell(L + 1, 3, H, 2), Controller(L, H, 3), r"M's latents.* 5 and 4"),
    ],
)
def test_sizes_that_do_not_fit_are_both_named(
    vae: ConvVAE, memory: MDRNNCell, controller: Controller, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Agent(vae, memory, controller, CAR)
