"""C carried over to other eyes: exact where it can be, close where it cannot."""

from pathlib import Path

import numpy as np
import pytest
import torch
from carracing import rooms

from wmlib import Agent, Controller, ConvVAE, MDRNNCell, generate_rollouts, load_parameters
from wmlib.controller import flatten_parameters
from wmlib.envs import make_env
from wmlib.latents import encode
from wmlib.rollouts import read_rollout, rollout_files

(imitation,) = rooms("imitation")
imitate, input_moments = imitation.imitate, imitation.input_moments

pytestmark = pytest.mark.usefixtures("float32")
COUNTING = "counting_env:Counting-v0"
L, H, A = 3, 5, 2


def make_agent(seed: int, sees: int = 1, doubt: float = 0.0) -> Agent:
    """``doubt`` is log sigma of what V says of a frame; by default it is as good as sure."""
    torch.manual_seed(seed)
    vae, cell, c = ConvVAE(3, L), MDRNNCell(L, A, H, 2), Controller(L, sees * H, A)
    vae.encoder.fc_mu.weight.data *= 1000  # untrained, no latent would tell anything
    vae.encoder.fc_logsigma.bias.data += doubt or -20
    return Agent(vae, cell, c, make_env(COUNTING).action_space)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Episodes of unequal lengths, more of them than are watched side by side."""
    folder = tmp_path_factory.mktemp("data")
    for count, steps in ((10, 30), (20, 17)):
        generate_rollouts(folder, COUNTING, count, steps, policy="random", display=False)
    return rollout_files(folder)


def outputs(agent: Agent, file: Path) -> np.ndarray:
    """C's outputs along a recorded episode, one frame after the other."""
    episode = np.load(file)
    agent.start([0])
    told = []
    for frame, action in zip(episode["observations"], episode["actions"], strict=True):
        h, c = (part.clone() for part in agent.hidden)  # act moves them on in place
        agent.act(frame[None], np.zeros(1, dtype=np.int64))
        with torch.no_grad():
            told.append(agent.controller(torch.cat([agent.mu, *(h, c)[: agent.sees]], dim=-1)))
            # What was recorded happened, not what this agent would have done.
            agent.hidden = agent.cell.step(torch.from_numpy(action)[None], agent.z, (h, c))
    return torch.cat(told).numpy()


@pytest.mark.parametrize("sees", [0, 1, 2])
def test_with_the_same_eyes_it_does_the_same(files: list[Path], sees: int) -> None:
    driver, pupil = make_agent(1, sees), make_agent(1, sees)
    with torch.no_grad():
        for parameter in driver.controller.parameters():
            parameter.mul_(100)  # far above the ridge
    flat = imitate(pupil, driver, files, display=False)
    assert flat.shape == (flatten_parameters(driver.controller.parameters()).size,)
    before = outputs(pupil, files[-1]) - outputs(driver, files[-1])
    load_parameters(flat, pupil.controller)
    after = outputs(pupil, files[-1]) - outputs(driver, files[-1])
    assert np.abs(after).mean() < 0.05 * np.abs(before).mean()


def test_with_other_eyes_no_other_linear_map_comes_closer(files: list[Path]) -> None:
    """Closer on samples of z: the expected error is that on the means, and V's doubt besides."""
    driver, pupil = make_agent(1), make_agent(2, doubt=0.5)
    flat = imitate(pupil, driver, files, display=False)
    wanted = np.concatenate([outputs(driver, file) for file in files])
    seen = [encode(pupil.vae, read_rollout(file).observations)[1] for file in files]
    variance = torch.cat(seen).double().mul(2).exp().sum(0).numpy()  # (L,)
    assert variance.min() > len(wanted)

    def error(parameters: np.ndarray) -> float:
        load_parameters(parameters, pupil.controller)
        drawn = np.concatenate([outputs(pupil, file) for file in files])
        weights = parameters[: A * (L + H)].reshape(A, L + H)[:, :L]
        # The ridge is part of what is solved; it spares the bias no more than the weights.
        ridge = np.square(parameters).sum()
        return float(
            np.square(drawn - wanted).sum() + (np.square(weights) * variance).sum() + ridge
        )

    rng, best = np.random.default_rng(0), error(flat)
    for _ in range(10):
        assert error(flat + 0.01 * rng.standard_normal(flat.size)) > best


@pytest.mark.parametrize("sees", [0, 1, 2])
def test_moments_are_those_of_what_c_sees(files: list[Path], sees: int) -> None:
    agent = make_agent(1, sees)
    size = L + sees * H + 1
    moments = input_moments(agent, files, display=False)
    assert moments.shape == (size, size)
    # C's outputs under any parameters are then known on average, squares and all.
    drawn = np.concatenate([outputs(agent, file) for file in files])
    parts = [p.detach().numpy() for p in agent.controller.parameters()]
    rows = np.c_[parts[0], parts[1]]
    wanted = drawn.T.astype(np.float64) @ drawn / len(drawn)
    np.testing.assert_allclose(rows @ moments @ rows.T, wanted, rtol=1e-3, atol=1e-6)


def test_a_latent_that_tells_nothing_gets_no_weight(files: list[Path]) -> None:
    def weight_of(doubt: float) -> float:
        agent, driver = make_agent(1, doubt=doubt), make_agent(1)
        agent.vae.encoder.fc_mu.weight.data[1] /= 1000  # what is left varies a little
        moments = input_moments(agent, files, display=False)
        assert np.flatnonzero(~moments.any(axis=0)).tolist() == [1]
        load_parameters(imitate(agent, driver, files, display=False), agent.controller)
        return float(agent.controller.fc.weight[:, 1].detach().abs().max())

    assert weight_of(doubt=0.5) < 0.1 * weight_of(doubt=0.0)
