"""C carried over to other eyes: exact where it can be, close where it cannot."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wmlib import (
    Agent,
    Controller,
    ConvVAE,
    MDRNNCell,
    flatten_parameters,
    generate_rollouts,
    imitate,
    input_moments,
    load_parameters,
    make_env,
    rollout_files,
)

COUNTING = "counting_env:Counting-v0"
L, H, A = 3, 5, 2


def make_agent(seed: int, use_h: bool = True) -> Agent:
    torch.manual_seed(seed)
    vae, cell, c = ConvVAE(3, L), MDRNNCell(L, A, H, 2), Controller(L, H if use_h else 0, A)
    vae.encoder.fc_mu.weight.data *= 1000  # untrained, no latent would tell anything
    return Agent(vae, cell, c, make_env(COUNTING).action_space, amp=False)


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
            told.append(agent.controller(agent.z, h) if agent.sees_h else agent.controller(agent.z))
            # What was recorded happened, not what this agent would have done.
            agent.hidden = agent.cell.step(torch.from_numpy(action)[None], agent.z, (h, c))
    return torch.cat(told).numpy()


@pytest.mark.parametrize("use_h", [True, False])
def test_with_the_same_eyes_it_does_the_same(files: list[Path], use_h: bool) -> None:
    driver, pupil = make_agent(1, use_h), make_agent(1, use_h)
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
    driver, pupil = make_agent(1), make_agent(2)
    flat = imitate(pupil, driver, files, display=False)
    wanted = np.concatenate([outputs(driver, file) for file in files])

    def error(parameters: np.ndarray) -> float:
        load_parameters(parameters, pupil.controller)
        drawn = np.concatenate([outputs(pupil, file) for file in files])
        # The ridge is part of what is solved; it spares the bias no more than the weights.
        return float(np.square(drawn - wanted).sum() + np.square(parameters).sum())

    rng, best = np.random.default_rng(0), error(flat)
    for _ in range(10):
        assert error(flat + 0.01 * rng.standard_normal(flat.size)) > best


@pytest.mark.parametrize("use_h", [True, False])
def test_moments_are_those_of_what_c_sees(files: list[Path], use_h: bool) -> None:
    agent = make_agent(1, use_h)
    size = L + (H if use_h else 0) + 1
    moments = input_moments(agent, files, display=False)
    assert moments.shape == (size, size)
    # C's outputs under any parameters are then known on average, squares and all.
    drawn = np.concatenate([outputs(agent, file) for file in files])
    parts = [p.detach().numpy() for p in agent.controller.parameters()]
    rows = np.c_[parts[0], parts[1]]
    wanted = drawn.T.astype(np.float64) @ drawn / len(drawn)
    np.testing.assert_allclose(rows @ moments @ rows.T, wanted, rtol=1e-3, atol=1e-6)


def test_latents_that_tell_nothing_get_no_weight(files: list[Path]) -> None:
    agent, driver = make_agent(1), make_agent(1)
    agent.vae.encoder.fc_mu.weight.data[1] /= 1000
    moments = input_moments(agent, files, display=False)
    assert np.flatnonzero(~moments.any(axis=0)).tolist() == [1]
    load_parameters(imitate(agent, driver, files, display=False), agent.controller)
    weight = agent.controller.fc.weight
    assert torch.nonzero((weight == 0).all(dim=0)).tolist() == [[1]]
