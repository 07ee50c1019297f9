"""V: shapes, gradients, the loss against closed forms, and files of other makers."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from wmlib.vae import ConvVAE, ConvVAEDecoder, ConvVAEEncoder, conv_vae_loss_fn, vae_from_state


@pytest.fixture(scope="module")
def vae() -> ConvVAE:
    torch.manual_seed(0)
    return ConvVAE()


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# -------------------------------------------------------------------------------- the model


def test_the_papers_number_of_parameters(vae: ConvVAE) -> None:
    assert sum(parameter.numel() for parameter in vae.parameters()) == 4_348_547


def test_forward_shapes(vae: ConvVAE, frames: Tensor) -> None:
    recon, mu, logsigma = vae(frames)
    assert recon.shape == frames.shape
    assert mu.shape == logsigma.shape == (2, 32)


def test_encoder_shapes(frames: Tensor) -> None:
    mu, logsigma = ConvVAEEncoder(3, 32)(frames)
    assert mu.shape == logsigma.shape == (2, 32)


def test_decoder_shapes() -> None:
    assert ConvVAEDecoder(3, 32)(torch.randn(5, 32)).shape == (5, 3, 64, 64)


def test_every_layer_of_the_encoder_has_the_papers_shape(vae: ConvVAE, frames: Tensor) -> None:
    shapes = []
    for name in ("conv1", "conv2", "conv3", "conv4"):
        layer = getattr(vae.encoder, name)
        layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    vae.encoder(frames)
    assert shapes == [(32, 31, 31), (64, 14, 14), (128, 6, 6), (256, 2, 2)]


@pytest.mark.parametrize("latent_size", [1, 16, 64])
def test_other_latent_sizes(latent_size: int, frames: Tensor) -> None:
    recon, mu, logsigma = ConvVAE(latent_size=latent_size)(frames)
    assert recon.shape == frames.shape
    assert mu.shape == logsigma.shape == (2, latent_size)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channels(channels: int) -> None:
    x = torch.rand(2, channels, 64, 64)
    assert ConvVAE(channels, 8)(x)[0].shape == x.shape


def test_one_frame_is_a_batch_too(vae: ConvVAE) -> None:
    assert vae(torch.rand(1, 3, 64, 64))[0].shape == (1, 3, 64, 64)


def test_reconstructions_are_pixels(vae: ConvVAE) -> None:
    recon = vae.decoder(100 * torch.randn(8, 32))
    assert recon.min() >= 0
    assert recon.max() <= 1


def test_every_parameter_gets_a_gradient(vae: ConvVAE, frames: Tensor) -> None:
    vae.zero_grad()
    recon, mu, logsigma = vae(frames)
    conv_vae_loss_fn(recon, frames, mu, logsigma).backward()
    for name, parameter in vae.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.abs().sum() > 0, f"{name} has a gradient of zero"


def test_the_gradient_reaches_the_frames(vae: ConvVAE, frames: Tensor) -> None:
    frames.requires_grad_()
    vae(frames)[0].sum().backward()
    assert frames.grad.abs().sum() > 0


def test_the_gradient_passes_through_the_sampling(vae: ConvVAE, frames: Tensor) -> None:
    """Reparameterisation: the reconstruction alone moves both heads."""
    vae.zero_grad()
    vae(frames)[0].sum().backward()
    assert vae.encoder.fc_mu.weight.grad.abs().sum() > 0
    assert vae.encoder.fc_logsigma.weight.grad.abs().sum() > 0


def test_encoding_is_deterministic_and_sampling_is_not(vae: ConvVAE, frames: Tensor) -> None:
    first, second = vae(frames), vae(frames)
    torch.testing.assert_close(first[1:], second[1:], rtol=0, atol=0)
    assert not torch.equal(first[0], second[0])


class Fixed(nn.Module):
    """An encoder that gives the same q(z | x) for every frame."""

    mu, logsigma = torch.tensor([3.0, -1.0]), torch.tensor([0.5, -2.0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mu.expand(len(x), 2), self.logsigma.expand(len(x), 2)


def test_z_is_mu_plus_sigma_times_standard_noise() -> None:
    """The moments of z, seen through a decoder that hands it on; five standard errors wide."""
    torch.manual_seed(0)
    vae, n = ConvVAE(latent_size=2), 10_000
    vae.encoder, vae.decoder = Fixed(), nn.Identity()
    z, _, _ = vae(torch.zeros(n, 1))
    sigma = Fixed.logsigma.exp()
    assert ((z.mean(0) - Fixed.mu).abs() < 5 * sigma / math.sqrt(n)).all()
    assert ((z.std(0) / sigma - 1).abs() < 5 / math.sqrt(2 * n)).all()
    assert torch.corrcoef(z.T)[0, 1].abs() < 5 / math.sqrt(n)


def test_the_decoder_is_its_layers_in_a_row() -> None:
    """Torch's own transposed convolutions, with the decoder's weights."""
    decoder, z = ConvVAEDecoder(), torch.randn(3, 32)
    x = decoder.fc(z)[:, :, None, None]
    for layer in (decoder.deconv1, decoder.deconv2, decoder.deconv3):
        x = nn.functional.conv_transpose2d(x, layer.weight, layer.bias, stride=2).relu()
    last = decoder.deconv4
    x = nn.functional.conv_transpose2d(x, last.weight, last.bias, stride=2).sigmoid()
    torch.testing.assert_close(decoder(z), x, rtol=1e-4, atol=1e-5)


def test_a_few_steps_learn_a_frame() -> None:
    """The gradient points down hill: one frame is learnt by heart."""
    torch.manual_seed(0)
    vae, losses = ConvVAE(latent_size=4), []
    x = torch.zeros(1, 3, 64, 64)
    x[:, 1, 20:40, 10:50] = 1
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    for _ in range(10):
        recon, mu, logsigma = vae(x)
        loss = conv_vae_loss_fn(recon, x, mu, logsigma)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


# --------------------------------------------------------------------------------- the loss


def test_the_loss_is_a_scalar() -> None:
    x, mu = torch.rand(2, 3, 64, 64), torch.randn(2, 32)
    assert conv_vae_loss_fn(x, x, mu, mu).shape == ()


def test_the_loss_is_positive() -> None:
    x, mu, logsigma = torch.rand(2, 3, 8, 8), torch.randn(2, 32), torch.randn(2, 32)
    assert conv_vae_loss_fn(torch.rand_like(x), x, mu, logsigma) > 0


def test_a_better_reconstruction_costs_less() -> None:
    x, zeros = torch.rand(2, 3, 8, 8), torch.zeros(2, 4)
    near, far = (conv_vae_loss_fn(x + error, x, zeros, zeros) for error in (0.1, 0.5))
    assert near < far


def test_the_kl_is_zero_at_the_prior() -> None:
    """With mu = 0 and logsigma = 0 the loss is the reconstruction's alone."""
    x, zeros = torch.rand(2, 3, 8, 8), torch.zeros(2, 32)
    assert conv_vae_loss_fn(x, x, zeros, zeros) == 0
    expected = (0.5**2) * x.numel()
    assert conv_vae_loss_fn(x + 0.5, x, zeros, zeros) == pytest.approx(expected, rel=1e-5)


def test_the_kl_is_the_closed_form() -> None:
    """Against torch.distributions, summed over latents and batch."""
    x = torch.rand(5, 3, 8, 8)
    mu, logsigma = torch.randn(5, 32), torch.randn(5, 32)
    expected = kl_divergence(Normal(mu, logsigma.exp()), Normal(0, 1)).sum()
    torch.testing.assert_close(conv_vae_loss_fn(x, x, mu, logsigma), expected)


def test_the_loss_is_the_bound_up_to_a_constant() -> None:
    """For pixels of variance ½, -log p(x|z) + KL differs from it by a constant in x and recon."""
    mu, logsigma = torch.randn(2, 4), torch.randn(2, 4)
    kl = kl_divergence(Normal(mu, logsigma.exp()), Normal(0, 1)).sum()
    gaps = []
    for _ in range(3):
        x, recon = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
        bound = -Normal(recon, math.sqrt(0.5)).log_prob(x).sum() + kl
        gaps.append(bound - conv_vae_loss_fn(recon, x, mu, logsigma))
    assert gaps[0].item() == pytest.approx(2 * 3 * 8 * 8 * 0.5 * math.log(math.pi), rel=1e-4)
    torch.testing.assert_close(gaps[0].expand(2), torch.stack(gaps[1:]), rtol=1e-4, atol=0)


def test_the_loss_is_differentiable() -> None:
    tensors = [torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.randn(2, 4), torch.randn(2, 4)]
    for tensor in tensors:
        tensor.requires_grad_()
    conv_vae_loss_fn(*tensors).backward()
    recon, x, mu, logsigma = tensors
    torch.testing.assert_close(recon.grad, 2 * (recon - x).detach())
    torch.testing.assert_close(mu.grad, mu.detach())
    torch.testing.assert_close(logsigma.grad, ((2 * logsigma).exp() - 1).detach())


@pytest.mark.parametrize(("mu", "logsigma"), [(3.0, 0.0), (0.0, 2.0), (0.0, -4.0)])
def test_leaving_the_prior_costs(mu: float, logsigma: float) -> None:
    x = torch.rand(1, 3, 8, 8)
    loss = conv_vae_loss_fn(x, x, torch.full((1, 4), mu), torch.full((1, 4), logsigma))
    assert loss > 0


def test_the_loss_is_a_sum_over_the_batch() -> None:
    x, recon = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    mu, logsigma = torch.randn(4, 32), torch.randn(4, 32)
    each = [
        conv_vae_loss_fn(recon[i : i + 1], x[i : i + 1], mu[i : i + 1], logsigma[i : i + 1])
        for i in range(4)
    ]
    torch.testing.assert_close(conv_vae_loss_fn(recon, x, mu, logsigma), sum(each))


def test_beta_weighs_the_kl_only() -> None:
    x, recon = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    mu, zeros = torch.ones(2, 4), torch.zeros(2, 4)
    base = conv_vae_loss_fn(recon, x, mu, zeros, beta=0)
    torch.testing.assert_close(base, (recon - x).pow(2).sum())
    weighed = conv_vae_loss_fn(recon, x, mu, zeros, beta=3)
    assert (weighed - base).item() == pytest.approx(3 * 0.5 * mu.numel(), rel=1e-4)


def test_the_kl_tolerance_is_free_per_sample() -> None:
    """A KL of 0.5 per latent costs the tolerance of one nat per latent; one of 2 costs itself."""
    x, zeros = torch.rand(2, 3, 8, 8), torch.zeros(2, 4)
    mu = torch.tensor([1.0, 2.0])[:, None].expand(2, 4)  # KL 0.5 and 2 per latent
    loss = conv_vae_loss_fn(x, x, mu, zeros, kl_tolerance=1.0)
    assert loss.item() == pytest.approx(4 * 1.0 + 4 * 2.0)
    assert conv_vae_loss_fn(x, x, mu, zeros).item() == pytest.approx(4 * 0.5 + 4 * 2.0)


def test_within_the_tolerance_there_is_no_pull_to_the_prior() -> None:
    x, zeros = torch.rand(1, 3, 8, 8), torch.zeros(1, 4)
    mu = torch.full((1, 4), 0.3, requires_grad=True)
    conv_vae_loss_fn(x, x, mu, zeros, kl_tolerance=0.5).backward()
    assert mu.grad.eq(0).all()


# --------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(("channels", "latents"), [(3, 32), (1, 5)])
def test_sizes_come_from_the_weights(channels: int, latents: int) -> None:
    saved = ConvVAE(channels, latents)
    loaded = vae_from_state(saved.state_dict())
    assert (loaded.img_channels, loaded.latent_size) == (channels, latents)
    x = torch.rand(1, channels, 64, 64)
    torch.testing.assert_close(loaded.encoder(x), saved.encoder(x), rtol=0, atol=0)
    assert not loaded.training


def test_names_of_the_state_dict() -> None:
    """What other readers of our files rely on."""
    layers = {name.rpartition(".")[0] for name in ConvVAE().state_dict()}
    assert layers == {
        *(f"encoder.conv{i}" for i in range(1, 5)), "encoder.fc_mu", "encoder.fc_logsigma",
        *(f"decoder.deconv{i}" for i in range(1, 5)), "decoder.fc",
    }  # fmt: skip


def test_ctallecs_checkpoints_are_read(vae: ConvVAE) -> None:
    theirs = {
        key.replace("decoder.fc.", "decoder.fc1."): value for key, value in vae.state_dict().items()
    }
    z = torch.randn(2, 32)
    torch.testing.assert_close(vae_from_state(theirs).decoder(z), vae.decoder(z))


def test_a_state_that_is_no_vae_names_its_origin() -> None:
    with pytest.raises(ValueError, match=r"best\.tar holds no ConvVAE: 'encoder"):
        vae_from_state(nn.Linear(2, 2).state_dict(), "best.tar")


def test_a_state_with_a_wrong_layer_names_it(vae: ConvVAE) -> None:
    state = {**vae.state_dict(), "decoder.deconv1.weight": torch.zeros(1024, 64, 5, 5)}
    with pytest.raises(ValueError, match=r"best\.tar: decoder\.deconv1\.weight is \(1024, 64"):
        vae_from_state(state, "best.tar")
