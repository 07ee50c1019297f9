"""M as an environment: it starts from real moments, is as uncertain as τ says, and ends twofold."""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from torch import nn

from wmlib import ConvVAE, Dream, DreamEnv, MDRNNCell, Rollout, tensor_to_frames
from wmlib.pixels import frames_to_tensor

L, H, BURN_IN = 4, 8, 3
SPACE = gym.spaces.Box(np.float32([-2, 0]), np.float32([1, 3]))


@pytest.fixture(scope="module")
def vae() -> ConvVAE:
    torch.manual_seed(0)
    vae = ConvVAE(3, L)
    vae.encoder.fc_mu.weight.data *= 200  # untrained, z would hardly differ from frame to frame
    return vae


@pytest.fixture
def cell() -> MDRNNCell:
    torch.manual_seed(1)
    return MDRNNCell(L, 2, H, 1)


@pytest.fixture(scope="module")
def rollouts(coarse_rollout: Callable[..., Rollout]) -> list[Rollout]:
    steps = (9, 9, BURN_IN)  # the last is too short to start in
    return [coarse_rollout(seed, SPACE, count) for seed, count in enumerate(steps)]


def biased(cell: MDRNNCell, reward: float = 0.0, end: float = 0.0, sigma: float = 1.0) -> MDRNNCell:
    """A memory that predicts the same at every step: z around 0, this reward, this end (logit)."""
    nn.init.zeros_(cell.gmm_linear.weight)
    nn.init.zeros_(cell.gmm_linear.bias)
    with torch.no_grad():
        cell.gmm_linear.bias[L : 2 * L] = float(np.log(sigma))
        cell.gmm_linear.bias[-2:] = torch.tensor([reward, end])
    return cell


def test_gymnasium_accepts_it(vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]) -> None:
    check_env(DreamEnv(vae, cell, rollouts, SPACE, burn_in=BURN_IN))
    discrete = gym.spaces.Discrete(2, start=1)
    check_env(DreamEnv(vae, cell, rollouts, discrete, burn_in=BURN_IN))


def test_it_begins_at_a_real_moment_with_the_memory_of_what_led_there(
    vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]
) -> None:
    dream = Dream(vae, cell, rollouts, burn_in=BURN_IN)
    z = dream.begin_at([(0, 5), (1, 3)])
    with torch.no_grad():
        for row, (episode, step) in enumerate([(0, 5), (1, 3)]):
            mu, _ = vae.encoder(frames_to_tensor(rollouts[episode].observations))
            h, c = cell.get_init_hidden(1)
            for t in range(step - BURN_IN, step):
                action = torch.from_numpy(rollouts[episode].actions[t])[None]
                h, c = cell.step(action, mu[t][None], (h, c))
            assert int((z[row] - mu).abs().amax(dim=1).argmin()) == step
            torch.testing.assert_close(z[row], mu[step], atol=0.05, rtol=0)  # bf16 products
            torch.testing.assert_close(dream.hidden[0][row], h[0], atol=0.01, rtol=0)


def test_the_seed_chooses_among_all_moments(
    vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]
) -> None:
    dream = Dream(vae, cell, rollouts, burn_in=BURN_IN)
    z = dream.reset(200, seed=3)
    real = torch.cat([mu[BURN_IN:] for mu, _ in dream.starts])
    nearest = torch.cdist(z, real).min(dim=1)
    assert float(nearest.values.max()) < 1e-5
    assert set(nearest.indices.tolist()) == set(range(len(real)))
    torch.testing.assert_close(dream.reset(200, seed=3), z)


def test_dreams_differ_from_each_other_and_repeat_with_their_seed(
    vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]
) -> None:
    env = DreamEnv(vae, cell, rollouts, SPACE, burn_in=BURN_IN)

    def tell(seed: int) -> np.ndarray:
        z, _ = env.reset(seed=seed, options={"moment": (0, 4)})
        return np.stack([z, *(env.step(np.float32([0, 1]))[0] for _ in range(4))])

    first = tell(1)
    np.testing.assert_array_equal(tell(1), first)
    other = tell(2)
    np.testing.assert_array_equal(other[0], first[0])  # from the same moment
    assert np.abs(other[1:] - first[1:]).min(axis=1).max() > 1e-2  # onwards by chance


@pytest.mark.parametrize("tau", [0.25, 1.0, 4.0])
def test_spread_grows_with_the_root_of_tau(
    vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout], tau: float
) -> None:
    dream = Dream(vae, biased(cell, sigma=0.5), rollouts, tau, BURN_IN)
    dream.reset(2000, seed=0)
    z, _, _ = dream.step(torch.zeros(2000, 2))
    assert float(z.std()) == pytest.approx(0.5 * tau**0.5, rel=0.05)


def test_tau_must_be_positive(vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]) -> None:
    dream = Dream(vae, cell, rollouts, temperature=0, burn_in=BURN_IN)
    dream.reset(1)
    with pytest.raises(ValueError, match="temperature must be positive, found 0"):
        dream.step(torch.zeros(1, 2))


def test_a_step_is_a_step_of_m(vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]) -> None:
    """Next z, reward and end come from one and the same prediction, for the action executed."""
    dream = Dream(vae, cell, rollouts, temperature=1e-9, burn_in=BURN_IN)
    z, hidden = dream.reset(5, seed=1), dream.hidden
    action = torch.linspace(-1, 1, 10).view(5, 2)
    with torch.no_grad():
        mus, _, _, reward, end, after = cell(action, z, hidden)
    seen = dream.step(action)
    torch.testing.assert_close(seen[0], mus[:, 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(seen[1], reward)
    torch.testing.assert_close(seen[2], end.sigmoid())
    torch.testing.assert_close(dream.hidden[1], after[1])


def test_an_action_beyond_the_bounds_is_told_as_executed(
    vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]
) -> None:
    env = DreamEnv(vae, cell, rollouts, SPACE, burn_in=BURN_IN)
    after = []
    for action in (np.float32([9, -9]), SPACE.high * [1, 0]):
        env.reset(seed=0)
        env.step(action)
        after.append(env.hidden[0])
    torch.testing.assert_close(after[0], after[1])


@pytest.mark.parametrize(("logit", "ends"), [(20.0, True), (-20.0, False)])
def test_an_end_is_not_a_time_limit(
    vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout], logit: float, ends: bool
) -> None:
    dreamt = biased(cell, reward=3.5, end=logit)
    env = DreamEnv(vae, dreamt, rollouts, SPACE, burn_in=BURN_IN, time_limit=2)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(np.float32([0, 1]))
    assert reward == pytest.approx(3.5)
    assert (terminated, truncated) == (ends, False)
    assert info["end_probability"] == pytest.approx(float(ends), abs=1e-6)
    _, _, terminated, truncated, _ = env.step(np.float32([0, 1]))
    assert (terminated, truncated) == (ends, not ends)
    env.reset(seed=0)
    assert not env.step(np.float32([0, 1]))[3]  # the clock began anew


def test_the_end_has_a_threshold(vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]) -> None:
    dreamt = biased(cell, end=0.0)  # one in two
    for threshold, ends in ((0.5, True), (0.51, False)):
        env = DreamEnv(vae, dreamt, rollouts, SPACE, burn_in=BURN_IN, end_probability=threshold)
        env.reset(seed=0)
        assert env.step(np.float32([0, 1]))[2] is ends


def test_it_looks_like_what_v_sees_in_z(
    vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]
) -> None:
    env = DreamEnv(vae, cell, rollouts, SPACE, burn_in=BURN_IN)
    env.reset(seed=0)
    z = env.step(np.float32([0, 1]))[0]
    with torch.no_grad():
        wanted = tensor_to_frames(vae.decoder(torch.from_numpy(z)[None]))[0]
    np.testing.assert_array_equal(env.render(), wanted)
    assert env.render().shape == (64, 64, 3)


def test_without_a_real_start_there_is_no_dream(
    vae: ConvVAE, cell: MDRNNCell, rollouts: list[Rollout]
) -> None:
    with pytest.raises(ValueError, match="starts from real frames"):
        Dream(vae, cell, [])
    with pytest.raises(ValueError, match=r"burn_in 30 wants 31 steps, the longest has 9"):
        Dream(vae, cell, rollouts, burn_in=30)
