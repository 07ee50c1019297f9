"""The mixture against torch.distributions, and its draws against closed forms."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from wmlib.mixture import gmm_loss, sample_gmm

L, K, T, B = 6, 4, 7, 5


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def mixture(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    mus, sigmas = torch.randn(*shape, K, L), 0.3 + torch.rand(*shape, K, L)
    return mus, sigmas, torch.randn(*shape, K).log_softmax(-1)


def reference(mus: Tensor, sigmas: Tensor, logpi: Tensor) -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(logits=logpi), Independent(Normal(mus, sigmas), 1))


# ---------------------------------------------------------------------------- the likelihood


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (3, 1), (1, 3), (7, 5), (2, 3, 4)])
def test_gmm_loss_is_the_mixtures_negative_log_likelihood_fault_5(shape: tuple[int, ...]) -> None:
    """Fault 5: a bare ``.squeeze()`` turned (T, 1) into (T, T); the mean did not show it."""
    z, (mus, sigmas, logpi) = torch.randn(*shape, L), mixture(*shape)
    expected = -reference(mus, sigmas, logpi).log_prob(z)
    nll = gmm_loss(z, mus, sigmas, logpi, reduce=False)
    assert nll.shape == shape
    torch.testing.assert_close(nll, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gmm_loss(z, mus, sigmas, logpi), expected.mean())


def test_gmm_loss_is_a_scalar() -> None:
    assert gmm_loss(torch.randn(T, B, L), *mixture(T, B)).shape == ()


def test_gmm_loss_far_from_the_means_is_positive() -> None:
    mus, sigmas, logpi = mixture(T, B)
    assert gmm_loss(torch.full((T, B, L), 9.0), mus, sigmas, logpi) > 0


def test_gmm_loss_of_a_sharp_right_answer_is_negative() -> None:
    """It is a density's: below zero is possible, and right."""
    mus, _, logpi = mixture(B)
    sharp = torch.full_like(mus, 1e-2)
    assert gmm_loss(mus[:, 0], mus, sharp, logpi) < 0


def test_better_predictions_cost_less() -> None:
    mus, sigmas, logpi = mixture(T, B)
    near = gmm_loss(mus[..., 0, :], mus, sigmas, logpi)
    far = gmm_loss(mus[..., 0, :] + 5, mus, sigmas, logpi)
    assert near < far


def test_gmm_loss_is_differentiable() -> None:
    z, (mus, sigmas, _) = torch.randn(B, L), mixture(B)
    raw = torch.randn(B, K, requires_grad=True)  # a leaf: logpi itself is none
    for part in (mus, sigmas):
        part.requires_grad_()
    gmm_loss(z, mus, sigmas, raw.log_softmax(-1)).backward()
    assert all(part.grad.abs().sum() > 0 for part in (mus, sigmas, raw))


def test_gmm_losss_gradient_is_the_references() -> None:
    z, grads = torch.randn(B, L, dtype=torch.float64), []
    parts = [part.double() for part in mixture(B)]
    for nll in (
        lambda *m: gmm_loss(z, *m),
        lambda *m: -reference(*m).log_prob(z).mean(),
    ):
        leaves = [part.clone().requires_grad_() for part in parts[:2]]
        nll(*leaves, parts[2]).backward()
        grads.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_gmm_loss_neither_overflows_nor_loses_its_gradient(offset: float) -> None:
    """Where every exp() would be zero, log-sum-exp still says how far, and which way."""
    mus, sigmas, logpi = mixture(B)
    mus.requires_grad_()
    loss = gmm_loss(torch.full((B, L), offset), mus, sigmas, logpi)
    loss.backward()
    assert loss.isfinite()
    assert mus.grad.isfinite().all()
    assert mus.grad.abs().sum() > 0


def test_one_gaussian_is_a_gaussian() -> None:
    z, mus, sigmas = torch.randn(B, L), torch.randn(B, 1, L), torch.rand(B, 1, L) + 0.1
    expected = -Normal(mus[:, 0], sigmas[:, 0]).log_prob(z).sum(-1)
    nll = gmm_loss(z, mus, sigmas, torch.zeros(B, 1), reduce=False)
    torch.testing.assert_close(nll, expected)


def test_components_in_another_order_are_the_same_mixture() -> None:
    z, (mus, sigmas, logpi) = torch.randn(B, L), mixture(B)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        gmm_loss(z, mus[:, order], sigmas[:, order], logpi[:, order]),
        gmm_loss(z, mus, sigmas, logpi),
    )


# --------------------------------------------------------------------------------- sampling


def test_sample_shapes() -> None:
    for shape in ((), (B,), (T, B)):
        assert sample_gmm(*mixture(*shape)).shape == (*shape, L)


def two_gaussians(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """A mixture on a line: 0.7 · N(-2, 0.5) + 0.3 · N(1, 1.5), n rows of it."""
    mus = torch.tensor([[-2.0], [1.0]]).expand(n, 2, 1)
    sigmas = torch.tensor([[0.5], [1.5]]).expand(n, 2, 1)
    return mus, sigmas, torch.tensor([0.7, 0.3]).log().expand(n, 2)


@pytest.mark.parametrize("tau", [0.25, 1.0, 1.3])
def test_moments_follow_the_papers_temperature(tau: float) -> None:
    """Logits / τ and σ · √τ; five standard errors wide."""
    n = 40_000
    z = sample_gmm(*two_gaussians(n), temperature=tau)[:, 0]
    pi = (torch.tensor([0.7, 0.3]).log() / tau).softmax(-1)
    mu, variance = torch.tensor([-2.0, 1.0]), tau * torch.tensor([0.5, 1.5]) ** 2
    mean = (pi * mu).sum()
    second = (pi * (variance + (mu - mean) ** 2)).sum()
    fourth = (pi * ((mu - mean) ** 4 + 6 * (mu - mean) ** 2 * variance + 3 * variance**2)).sum()
    assert (z.mean() - mean).abs() < 5 * (second / n).sqrt()
    assert (z.var() - second).abs() < 5 * ((fourth - second**2) / n).sqrt()


def test_samples_are_drawn_from_the_density_that_gmm_loss_measures() -> None:
    """Their mean loss is the mixture's entropy, known from the reference's own samples."""
    mus, sigmas, logpi = (part.expand(20_000, *part.shape) for part in mixture())
    ours = gmm_loss(sample_gmm(mus, sigmas, logpi), mus, sigmas, logpi, reduce=False)
    theirs = -reference(mus, sigmas, logpi).log_prob(reference(mus, sigmas, logpi).sample())
    error = ((ours.var() + theirs.var()) / 20_000).sqrt()
    assert (ours.mean() - theirs.mean()).abs() < 5 * error


def test_one_component_is_drawn_for_the_whole_vector() -> None:
    """The modes are not mixed coordinate by coordinate."""
    mus = torch.stack([torch.full((L,), -9.0), torch.full((L,), 9.0)]).expand(500, 2, L)
    z = sample_gmm(mus, torch.full_like(mus, 0.1), torch.zeros(500, 2).log_softmax(-1))
    assert z.sign().sum(-1).abs().eq(L).all()
    assert 0.3 < (z[:, 0] > 0).float().mean() < 0.7


def test_towards_zero_temperature_the_likeliest_mean_is_left() -> None:
    mus, sigmas, logpi = mixture(B)
    best = mus[torch.arange(B), logpi.argmax(-1)]
    torch.testing.assert_close(
        sample_gmm(mus, sigmas, logpi, temperature=1e-10), best, rtol=0, atol=1e-3
    )


def test_a_component_without_weight_is_never_drawn() -> None:
    mus, sigmas, _ = two_gaussians(5000)
    z = sample_gmm(mus, sigmas, torch.tensor([-math.inf, 0.0]).expand(5000, 2))
    assert (z.mean() - 1.0).abs() < 5 * 1.5 / math.sqrt(5000)


def test_a_generator_makes_draws_that_repeat() -> None:
    parts = mixture(B)
    draws = [sample_gmm(*parts, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("tau", [0.0, -1.0])
def test_a_temperature_that_is_none_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive, found"):
        sample_gmm(*mixture(B), temperature=tau)


def test_noise_of_the_callers_own_is_used() -> None:
    """Exponential variables race: the component with the largest weight / variable wins."""
    mus, sigmas, logpi = mixture(200)
    exponential, normal = torch.empty(200, K).exponential_(), torch.randn(200, L)
    z = sample_gmm(mus, sigmas, logpi, temperature=0.5, noise=(exponential, normal))
    winner = ((2 * logpi).exp() / exponential).argmax(-1)
    rows = torch.arange(200)
    expected = mus[rows, winner] + math.sqrt(0.5) * sigmas[rows, winner] * normal
    torch.testing.assert_close(z, expected)
    assert winner.unique().numel() == K


# ---------------------------------------------------------------- a mixture of each latent's own


def own_mixtures(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    mus, sigmas = torch.randn(*shape, K, L), 0.3 + torch.rand(*shape, K, L)
    return mus, sigmas, torch.randn(*shape, K, L).log_softmax(-2)


@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (7, 5)])
def test_a_mixture_of_each_latents_own_is_their_product(shape: tuple[int, ...]) -> None:
    z, (mus, sigmas, logpi) = torch.randn(*shape, L), own_mixtures(*shape)
    each = MixtureSameFamily(
        Categorical(logits=logpi.transpose(-1, -2)),
        Normal(mus.transpose(-1, -2), sigmas.transpose(-1, -2)),
    )
    nll = gmm_loss(z, mus, sigmas, logpi, reduce=False)
    assert nll.shape == shape
    torch.testing.assert_close(nll, -each.log_prob(z).sum(-1), rtol=1e-5, atol=1e-5)


def test_with_one_gaussian_both_kinds_of_mixture_are_the_same() -> None:
    z, (mus, sigmas, _) = torch.randn(B, L), own_mixtures(B)
    mus, sigmas = mus[:, :1], sigmas[:, :1]
    torch.testing.assert_close(
        gmm_loss(z, mus, sigmas, torch.zeros(B, 1, L)), gmm_loss(z, mus, sigmas, torch.zeros(B, 1))
    )


def test_each_latent_draws_its_own_component() -> None:
    """Two far components: as a vector all latents jump together, on their own they do not."""
    n = 2000
    mus = torch.tensor([-10.0, 10.0])[:, None].expand(n, 2, L)
    sigmas = torch.full((n, 2, L), 0.1)
    share = torch.tensor([0.25, 0.75]).log()
    together = sample_gmm(mus, sigmas, share.expand(n, 2)) > 0
    apart = sample_gmm(mus, sigmas, share[:, None].expand(n, 2, L)) > 0
    assert (together == together[:, :1]).all()
    assert not (apart == apart[:, :1]).all()
    for drawn in (together, apart):
        assert abs(float(drawn.float().mean()) - 0.75) < 0.05


def test_low_temperature_takes_each_latents_likeliest_component() -> None:
    mus, sigmas, logpi = own_mixtures(B)
    drawn = sample_gmm(mus, sigmas, logpi, temperature=1e-6)
    best = mus.gather(-2, logpi.argmax(-2, keepdim=True)).squeeze(-2)
    torch.testing.assert_close(drawn, best, atol=0.02, rtol=0)
