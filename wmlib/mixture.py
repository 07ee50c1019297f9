"""Several Gaussians: how likely is z, and a draw from them."""

import math

import torch
from torch import Tensor


def gmm_loss(
    latent_next_obs: Tensor, mus: Tensor, sigmas: Tensor, logpi: Tensor, reduce: bool = True
) -> Tensor:
    """Negative log-likelihood of the next latent under a mixture of diagonal Gaussians.

    ``-log sum_k pi_k prod_j N(z_j; mu_kj, sigma_kj)``, by log-sum-exp. One mixture for the whole
    vector z, so it may be negative: it is a density, not a probability. Where ``logpi`` has a
    weight for each latent, z_j has a mixture of its own, ``-sum_j log sum_k pi_kj N(z_j; mu_kj,
    sigma_kj)``, which is the paper's form.

    Args:
        latent_next_obs: z to explain (*, L).
        mus: Means (*, K, L).
        sigmas: Standard deviations (*, K, L), positive.
        logpi: Log mixture weights (*, K), or (*, K, L), normalised over K.
        reduce: Mean over the batch dimensions; otherwise every one of them is kept.

    Returns:
        NLL in nats: a scalar, or (*).

    >>> one = torch.ones(1, 2)  # a Gaussian of mean 1 and deviation 1 for each of two latents
    >>> print(f"{gmm_loss(one[0], one, one, torch.zeros(1)):.4f}")  # log 2π
    1.8379

    Source: Bishop (1994), Mixture Density Networks; Ha & Schmidhuber (2018), section 2.2.
    """
    distance = (latent_next_obs.unsqueeze(-2) - mus) / sigmas  # (*, K, L)
    log_normal = -(0.5 * distance.pow(2) + sigmas.log())  # (*, K, L), up to the constant
    constant = 0.5 * mus.shape[-1] * math.log(2 * math.pi)
    if logpi.ndim == mus.ndim:
        nll = constant - torch.logsumexp(logpi + log_normal, dim=-2).sum(-1)  # (*)
    else:
        nll = constant - torch.logsumexp(logpi + log_normal.sum(-1), dim=-1)
    return nll.mean() if reduce else nll


def sample_gmm(
    mus: Tensor,
    sigmas: Tensor,
    logpi: Tensor,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
    noise: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Draw the next z from the mixture at temperature τ.

    Mixture logits are divided by τ, deviations multiplied by √τ: π_k^(1/τ), renormalised, and √τ σ.
    τ → 0 gives the likeliest component's mean, τ > 1 a world less certain than M believes.

    Args:
        mus: Means (*, K, L).
        sigmas: Standard deviations (*, K, L).
        logpi: Log mixture weights (*, K), or (*, K, L) for a mixture of each latent's own.
        temperature: τ > 0.
        generator: Source of randomness, for draws that repeat.
        noise: What is drawn otherwise, for rows with streams of their own: Exponential(1)
            variables of ``logpi``'s shape and standard normal ones (*, L).

    Returns:
        z (*, L).

    Raises ValueError if τ is not positive.

    Source: Ha & Schmidhuber (2018), section 4.2, after Graves (2013).
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, found {temperature}; try 0.1 to 1.3")
    if noise is None:
        uniform = torch.empty_like(logpi).uniform_(generator=generator)
        normal = torch.empty_like(mus[..., 0, :]).normal_(generator=generator)
        noise = -uniform.clamp_min(1e-20).log(), normal
    exponential, normal = noise
    # Gumbel-max: argmax(logits + Gumbel noise) is a categorical draw, without a softmax.
    logits = logpi / temperature - exponential.log()
    if logpi.ndim == mus.ndim:
        index = logits.max(-2, keepdim=True).indices  # (*, 1, L); argmax takes ten times as long
    else:
        k = logits.argmax(-1)  # (*)
        index = k[..., None, None].expand(*k.shape, 1, mus.shape[-1])
    mu = mus.gather(-2, index).squeeze(-2)  # (*, L)
    sigma = sigmas.gather(-2, index).squeeze(-2)
    return mu + sigma * math.sqrt(temperature) * normal
