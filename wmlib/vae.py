"""V: a frame becomes z."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmlib.checkpoints import load_weights


class ConvVAEEncoder(nn.Module):
    """Four strided convolutions and two linear heads: a frame to q(z | x).

    Shapes: ``(B, img_channels, 64, 64)`` in [0, 1] to ``mu, logsigma``, each
    ``(B, latent_size)``. ``logsigma`` is the log of the standard deviation, never a
    log-variance. Source: Ha & Schmidhuber (2018), appendix A.1.
    """

    def __init__(self, img_channels: int = 3, latent_size: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(img_channels, 32, 4, stride=2)
        self.conv2 = nn.Conv2d(32, 64, 4, stride=2)
        self.conv3 = nn.Conv2d(64, 128, 4, stride=2)
        self.conv4 = nn.Conv2d(128, 256, 4, stride=2)
        self.fc_mu = nn.Linear(1024, latent_size)
        self.fc_logsigma = nn.Linear(1024, latent_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames ``x`` (B, C, 64, 64) to ``mu, logsigma``, each (B, L)."""
        x = F.relu(self.conv1(x))  # (B, 32, 31, 31)
        x = F.relu(self.conv2(x))  # (B, 64, 14, 14)
        x = F.relu(self.conv3(x))  # (B, 128, 6, 6)
        x = F.relu(self.conv4(x))  # (B, 256, 2, 2)
        x = x.flatten(1)  # (B, 1024)
        return self.fc_mu(x), self.fc_logsigma(x)


class ConvVAEDecoder(nn.Module):
    """One linear layer and four transposed convolutions: z to a frame.

    Shapes: ``(B, latent_size)`` to ``(B, img_channels, 64, 64)`` in [0, 1].
    Source: Ha & Schmidhuber (2018), appendix A.1.
    """

    def __init__(self, img_channels: int = 3, latent_size: int = 32) -> None:
        super().__init__()
        self.fc = nn.Linear(latent_size, 1024)
        self.deconv1 = nn.ConvTranspose2d(1024, 128, 5, stride=2)
        self.deconv2 = nn.ConvTranspose2d(128, 64, 5, stride=2)
        self.deconv3 = nn.ConvTranspose2d(64, 32, 6, stride=2)
        self.deconv4 = nn.ConvTranspose2d(32, img_channels, 6, stride=2)

    def forward(self, z: Tensor) -> Tensor:
        """Decode latents ``z`` (B, L) to frames (B, C, 64, 64) in [0, 1]."""
        x = self.fc(z)[..., None, None]  # (B, 1024, 1, 1)
        x = F.relu(self.deconv1(x))  # (B, 128, 5, 5)
        x = F.relu(self.deconv2(x))  # (B, 64, 13, 13)
        x = F.relu(self.deconv3(x))  # (B, 32, 30, 30)
        return torch.sigmoid(self.deconv4(x))  # (B, C, 64, 64)


class ConvVAE(nn.Module):
    """The variational autoencoder V: 12,288 pixel values become 32 numbers and back.

    >>> sum(part.numel() for part in ConvVAE().parameters())  # as in the paper
    4348547

    Args:
        img_channels: Channels of a frame.
        latent_size: Length L of z.

    Source: Ha & Schmidhuber (2018), section 2.1 and appendix A.1; Kingma & Welling (2014).
    """

    def __init__(self, img_channels: int = 3, latent_size: int = 32) -> None:
        super().__init__()
        self.img_channels = img_channels
        self.latent_size = latent_size
        self.encoder = ConvVAEEncoder(img_channels, latent_size)
        self.decoder = ConvVAEDecoder(img_channels, latent_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, sample once, decode.

        Args:
            x: Frames (B, C, 64, 64) in [0, 1].

        Returns:
            ``recon`` (B, C, 64, 64) in [0, 1], ``mu`` and ``logsigma`` (B, L).
        """
        mu, logsigma = self.encoder(x)  # (B, L) each
        return self.decoder(sample_latent(mu, logsigma)), mu, logsigma


def sample_latent(mu: Tensor, logsigma: Tensor, noise: Tensor | None = None) -> Tensor:
    """z = μ + σ ε: a draw from q(z | x), all of the arguments' shape.

    The noise ε is an input, so gradients reach mu and logsigma (the reparameterisation trick).

    Args:
        mu: Means (*, L).
        logsigma: Log standard deviations (*, L).
        noise: ε (*, L), standard normal; drawn here by default.

    Source: Kingma & Welling (2014), section 2.4; Ha & Schmidhuber (2018), appendix A.1.
    """
    return mu + logsigma.exp() * (torch.randn_like(mu) if noise is None else noise)


def kl_divergence(mu: Tensor, logsigma: Tensor) -> Tensor:
    """KL(q(z | x) ‖ N(0, I)) of each latent, in nats: (*, L) from mu and logsigma (*, L).

    >>> kl_divergence(torch.zeros(1), torch.zeros(1)).item()
    0.0

    Source: Kingma & Welling (2014), appendix B.
    """
    return 0.5 * (mu.pow(2) + (2 * logsigma).exp() - 1 - 2 * logsigma)


def conv_vae_loss_fn(
    reconst: Tensor,
    x: Tensor,
    mu: Tensor,
    logsigma: Tensor,
    beta: float = 1.0,
    kl_tolerance: float = 0.0,
) -> Tensor:
    """Negative evidence lower bound, up to a constant: squared error plus β KL.

    Summed over pixels, latents and batch. Divided by β, this is the bound of a decoder with
    Gaussian noise of variance β/2 on each pixel, whatever β is; β = 1 assumes a noise of 0.71 on a
    scale of 0 … 1, far more than V's error, and so spends few nats on z.

    Args:
        reconst: Reconstructions (B, C, H, W).
        x: Frames (B, C, H, W).
        mu: Means of q(z | x) (B, L).
        logsigma: Log standard deviations of q(z | x) (B, L).
        beta: Weight of the KL term.
        kl_tolerance: Nats *per latent* that cost nothing (0 is off; the authors' code uses 0.5):
            the KL of a sample counts as at least ``kl_tolerance * L``.

    Returns:
        A scalar, in squared pixel levels (of [0, 1]) plus nats.

    Source: Ha & Schmidhuber (2018), appendix A.1.
    """
    mse = F.mse_loss(reconst, x, reduction="sum")
    kl = kl_divergence(mu, logsigma).sum(-1)  # (B,)
    if kl_tolerance > 0:
        kl = kl.clamp_min(kl_tolerance * mu.shape[-1])
    return mse + beta * kl.sum()


def vae_from_state(state: dict[str, Tensor], origin: str = "the state dict") -> ConvVAE:
    """A ConvVAE of the sizes that its weights have.

    Reads ctallec's checkpoints too, where the decoder's first layer is called ``fc1``.
    """
    state = {key.replace("decoder.fc1.", "decoder.fc."): value for key, value in state.items()}
    try:
        latent_size = state["encoder.fc_mu.weight"].shape[0]
        img_channels = state["encoder.conv1.weight"].shape[1]
    except KeyError as error:
        raise ValueError(f"{origin} holds no ConvVAE: {error} is missing") from error
    vae = ConvVAE(img_channels, latent_size)
    load_weights(vae, state, origin)
    return vae.eval()
