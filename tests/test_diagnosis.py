"""Judging V and M: models whose errors can be worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from wmlib import (
    MDRNN,
    ConvVAE,
    LatentSequenceDataset,
    diagnose_mdrnn,
    diagnose_vae,
    entropy_floor,
    open_loop_error,
)
from wmlib.vae import kl_divergence

L, A, H, SEQ = 3, 2, 4, 6


# -------------------------------------------------------------------------------------------- V


class Grey(nn.Module):
    """Draws every frame grey, and tells of it in one latent of two."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encoder(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = torch.stack([x.mean((1, 2, 3)), torch.zeros(len(x))], dim=1)
        return mu, torch.tensor([-1.0, 0.0]).expand_as(mu)

    def decoder(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(-1, 3, 64, 64) * 0 + 0.5


@pytest.mark.usefixtures("float32")
def test_vs_error_is_the_losss_and_its_latents_are_counted() -> None:
    levels = np.array([51, 102, 255], dtype=np.uint8)  # 0.2, 0.4 and 1
    frames = np.broadcast_to(levels[:, None, None, None], (3, 64, 64, 3)).copy()
    found = diagnose_vae(Grey(), frames)
    errors = np.array([0.3, 0.1, 0.5]) ** 2 * 3 * 64 * 64
    assert found["error"] == pytest.approx(errors.mean(), rel=1e-5)
    assert found["error_95"] == pytest.approx(np.quantile(errors, 0.95), rel=1e-5)
    mu = torch.tensor([0.2, 0.4, 1.0])
    assert found["kl"][0] == pytest.approx(float(kl_divergence(mu, -torch.ones(3)).mean()))
    assert found["kl"][1] == 0
    assert found["active"] == 1


@pytest.mark.usefixtures("float32")
def test_many_frames_are_judged_as_few_are() -> None:
    """In pieces of 200, with the models' own code."""
    torch.manual_seed(0)
    vae = ConvVAE(latent_size=L).eval()
    frames = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    few, many = diagnose_vae(vae, frames), diagnose_vae(vae, frames.repeat(70, axis=0))
    assert many["error"] == pytest.approx(few["error"], rel=1e-5)
    assert many["kl"] == pytest.approx(few["kl"], rel=1e-4)
    assert len(many["kl"]) == L


def test_the_floor_is_the_entropy_of_q() -> None:
    sigma = torch.tensor([[0.5, 1.0, 2.0], [1.0, 0.1, 3.0]])
    expected = Normal(0.0, sigma).entropy().sum(-1).mean()
    assert entropy_floor(sigma.log()) == pytest.approx(float(expected), rel=1e-6)


# -------------------------------------------------------------------------------------------- M


def episodes(logsigma: float = -20.0) -> LatentSequenceDataset:
    """Two episodes of 9 and 12 steps, of random latents of that spread."""
    rng = np.random.default_rng(0)
    mu = rng.normal(size=(21, L)).astype(np.float32) * [1, 2, 3]
    return LatentSequenceDataset(
        {
            "latents": mu,
            "logsigmas": np.full((21, L), logsigma, np.float32),
            "actions": rng.normal(size=(21, A)),
            "rewards": rng.normal(size=21),
            "terminals": np.zeros(21),
            "episode_starts": np.array([0, 9]),
            "final_latents": rng.normal(size=(2, L)),
            "final_logsigmas": np.full((2, L), logsigma, np.float32),
        },
        SEQ,
    )


MEAN, SIGMA, REWARD = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([1.0, 2.0, 0.5]), 0.25


@pytest.fixture
def stubborn() -> MDRNN:
    """M that foresees the same Gaussian and the same reward, whatever happens."""
    mdrnn = MDRNN(L, A, H, 1)
    with torch.no_grad():
        mdrnn.gmm_linear.weight.zero_()
        last = torch.tensor([0.0, REWARD, 0.0])  # log pi, reward, end
        mdrnn.gmm_linear.bias.copy_(torch.cat([MEAN, SIGMA.log(), last]))
    return mdrnn


def windows(dataset: LatentSequenceDataset) -> tuple[Tensor, ...]:
    """All of them: z, actions, rewards, ends, next z."""
    return dataset.batch(torch.arange(len(dataset)), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("logsigma", [-20.0, -1.0])
def test_ms_prediction_stands_beside_its_floor_and_the_naive_ones(
    stubborn: MDRNN, logsigma: float
) -> None:
    dataset = episodes(logsigma)
    z, _, reward, _, z_next = windows(dataset)
    found = diagnose_mdrnn(stubborn, dataset)
    nll = -Normal(MEAN, SIGMA).log_prob(z_next).sum(-1).mean()
    assert found["nll"] == pytest.approx(float(nll), rel=1e-5)
    assert found["floor"] == pytest.approx(L * (logsigma + 0.5 * math.log(2 * math.pi * math.e)))
    for name, residual in (("gaussian", z_next - z_next.mean((0, 1))), ("persistence", z_next - z)):
        spread = residual.pow(2).mean((0, 1)).sqrt()
        naive = -Normal(torch.zeros(L), spread).log_prob(residual).sum(-1).mean()
        assert found[name] == pytest.approx(float(naive), rel=1e-5)
    assert found["reward_mse"] == pytest.approx(float((reward - REWARD).pow(2).mean()), rel=1e-5)
    assert found["reward_variance"] == pytest.approx(float(reward.var()), rel=1e-5)
    assert found["floor"] < found["gaussian"] < found["nll"]


def test_judging_repeats_with_its_seed(stubborn: MDRNN) -> None:
    dataset = episodes(0.0)
    first = diagnose_mdrnn(stubborn, dataset, windows=4, seed=1)
    assert diagnose_mdrnn(stubborn, dataset, windows=4, seed=1) == first
    assert diagnose_mdrnn(stubborn, dataset, windows=4, seed=2)["nll"] != first["nll"]


@pytest.mark.parametrize("burn_in", [0, 2])
def test_a_dream_without_sight_is_as_far_off_as_its_guess(stubborn: MDRNN, burn_in: int) -> None:
    dataset = episodes()
    z, *_, z_next = windows(dataset)
    mu = torch.cat([z, z_next[:, -1:]], dim=1)  # (B, T + 1, L)
    found = open_loop_error(stubborn, dataset, burn_in, temperature=1e-8)
    guesses = {"dream": MEAN, "persistence": mu[:, burn_in], "average": mu.mean((0, 1))}
    assert found.keys() == guesses.keys()
    for name, guess in guesses.items():
        expected = [
            float((guess - mu[:, t + 1]).pow(2).sum(-1).mean()) for t in range(burn_in, SEQ)
        ]
        assert found[name] == pytest.approx(expected, rel=1e-3)


def test_a_dream_goes_on_from_its_own_z() -> None:
    """Against the loop written out: real steps first, then M's own."""
    torch.manual_seed(0)
    mdrnn, dataset = MDRNN(L, A, H, 1), episodes()
    z, action, *_, z_next = windows(dataset)
    mu = torch.cat([z, z_next[:, -1:]], dim=1)
    found = open_loop_error(mdrnn, dataset, 2, temperature=1e-10)["dream"]
    cell, expected = mdrnn.to_cell(), []
    with torch.no_grad():
        hidden = cell.get_init_hidden(len(mu))
        for t in range(2):
            hidden = cell.step(action[:, t], mu[:, t], hidden)
        guess = mu[:, 2]
        for t in range(2, SEQ):
            mus, _, _, _, _, hidden = cell(action[:, t], guess, hidden)
            guess = mus[:, 0]
            expected.append(float((guess - mu[:, t + 1]).pow(2).sum(-1).mean()))
    assert found == pytest.approx(expected, rel=1e-3)
