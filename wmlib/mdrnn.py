"""M: from (z, a, h) to a distribution over the next z."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wmlib.checkpoints import load_weights
from wmlib.mixture import gmm_loss

# Log-sigmas outside this range are never needed for latents of unit scale, and exp of what an
# untrained head may emit would reach 0 or infinity.
LOGSIGMA_RANGE = (-7.0, 3.0)

Prediction = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Hidden = tuple[Tensor, Tensor]
MIXTURES = ("vector", "latent")


class _MDRNNBase(nn.Module):
    """What the sequence model and the cell share: the sizes and the output head."""

    recurrence: type[nn.Module]

    def __init__(
        self, latents: int, actions: int, hiddens: int, gaussians: int, mixture: str = "vector"
    ) -> None:
        super().__init__()
        if mixture not in MIXTURES:
            raise ValueError(f"mixture must be one of {MIXTURES}, found {mixture!r}")
        self.latents, self.actions = latents, actions
        self.hiddens, self.gaussians, self.mixture = hiddens, gaussians, mixture
        self.weights = latents if mixture == "latent" else 1  # mixture weights per Gaussian
        self.gmm_linear = nn.Linear(hiddens, (2 * latents + self.weights) * gaussians + 2)
        self.rnn = self.recurrence(latents + actions, hiddens)

    def head(self, h: Tensor) -> Prediction:
        """Hidden states (*, H) to mixture, reward and terminal logit."""
        size, weights = self.gaussians * self.latents, self.gaussians * self.weights
        mus, logsigmas, pi, r, d = self.gmm_linear(h).float().split([size, size, weights, 1, 1], -1)
        shape = (*h.shape[:-1], self.gaussians, self.latents)  # (*, K, L)
        sigmas = logsigmas.reshape(shape).clamp(*LOGSIGMA_RANGE).exp()
        own = self.mixture == "latent"
        logpi = pi.reshape(shape).log_softmax(-2) if own else pi.log_softmax(-1)  # or (*, K)
        return mus.reshape(shape), sigmas, logpi, r.squeeze(-1), d.squeeze(-1)


class MDRNN(_MDRNNBase):
    """The sequence model, for training: an LSTM with a mixture density head.

    >>> sum(part.numel() for part in MDRNN(32, 3, 256, 5).parameters())
    384071

    Args:
        latents: Length L of z.
        actions: Length A of the action M is told.
        hiddens: LSTM units H.
        gaussians: Mixture components K.
        mixture: ``"vector"``, one mixture for the whole of z, or ``"latent"``, one for each of its
            numbers, as the paper has it.

    Source: Ha & Schmidhuber (2018), section 2.2 and appendix A.2.
    """

    recurrence = nn.LSTM
    rnn: nn.LSTM

    def forward(self, actions: Tensor, latents: Tensor) -> Prediction:
        """Predict the next latent, reward and end at every step, from h = 0.

        Of actions (T, B, A), as executed, and latents (T, B, L) come ``mus, sigmas`` (T, B, K, L),
        ``logpi`` (T, B, K), or (T, B, K, L) for a mixture of each latent's own, rewards (T, B) and
        terminal *logits* (T, B).
        """
        h, _ = self.rnn(torch.cat([actions, latents], dim=-1))  # (T, B, H)
        return self.head(h)

    def to_cell(self) -> MDRNNCell:
        """The same model one step at a time, with its own copy of the weights."""
        return MDRNNCell.from_mdrnn(self)


class MDRNNCell(_MDRNNBase):
    """The same model one step at a time, for acting and dreaming; its sizes: see ``MDRNN``."""

    recurrence = nn.LSTMCell
    rnn: nn.LSTMCell

    def forward(
        self, action: Tensor, latent: Tensor, hidden: Hidden
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Hidden]:
        """One step. The returned (h, c) must be handed to the next one.

        Args:
            action: (B, A).
            latent: (B, L).
            hidden: (h, c), each (B, H).

        Returns:
            ``mus, sigmas`` (B, K, L), ``logpi`` (B, K), reward (B,), terminal logit (B,), (h, c).
        """
        hidden = self.step(action, latent, hidden)
        return *self.head(hidden[0]), hidden

    def step(self, action: Tensor, latent: Tensor, hidden: Hidden) -> Hidden:
        """Advance (h, c) only: all that acting needs, without the mixture head."""
        h, c = self.rnn(torch.cat([action, latent], dim=-1), hidden)  # (B, H) each
        return h, c

    def watch(self, actions: Tensor, latents: Tensor) -> Hidden:
        """(h, c) after real steps from an episode's start: actions (B, T, A), latents (B, T, L)."""
        hidden = self.get_init_hidden(len(latents))
        for action, latent in zip(actions.unbind(1), latents.unbind(1), strict=True):  # (B, ·)
            hidden = self.step(action, latent, hidden)
        return hidden

    def get_init_hidden(self, batch: int) -> Hidden:
        """Zeros (h, c), each (batch, H): what every episode starts from."""
        weight = self.gmm_linear.weight
        return weight.new_zeros(batch, self.hiddens), weight.new_zeros(batch, self.hiddens)

    @classmethod
    def from_mdrnn(cls, mdrnn: MDRNN) -> MDRNNCell:
        """Transfer the weights of a trained sequence model, by a copy."""
        cell = cls(mdrnn.latents, mdrnn.actions, mdrnn.hiddens, mdrnn.gaussians, mdrnn.mixture)
        # nn.LSTM names its layers (weight_ih_l0); nn.LSTMCell has just one (weight_ih).
        renamed = {key.removesuffix("_l0"): value for key, value in mdrnn.state_dict().items()}
        cell.load_state_dict(renamed)
        return cell.to(mdrnn.gmm_linear.weight.device)


def get_loss(
    mdrnn: nn.Module,
    latent_obs: Tensor,
    action: Tensor,
    reward: Tensor,
    terminal: Tensor,
    latent_next_obs: Tensor,
    include_reward: bool,
    latent_size: int,
    terminal_weight: float = 1.0,
    mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """The loss of M on a batch of windows.

    ``(gmm + bce [+ mse]) / (latent_size + 2)``, or ``+ 1`` without the reward: near 1 per step.
    Where each latent has a mixture of its own it is the authors' sum, ``gmm / latent_size + bce
    [+ mse]``: the end of an episode, one step in hundreds, then counts as much as a latent.

    Args:
        mdrnn: The sequence model.
        latent_obs: z_t (B, T, L), batch first, as a data loader gives it.
        action: a_t (B, T, A).
        reward: r_t (B, T), what the environment paid for a_t.
        terminal: d_t (B, T), 1 where a_t ended the episode.
        latent_next_obs: z_{t+1} (B, T, L).
        include_reward: Whether the reward's squared error counts.
        latent_size: L, for the scale.
        terminal_weight: What a step that ends an episode counts in the cross-entropy. With w, a
            logit above 0 means a probability above 1 / (1 + w).
        mask: 1 where a step counts (B, T), 0 where it pads a shorter episode; by default all do.

    Returns:
        Scalars ``gmm`` (nats per step), ``bce`` (nats), ``mse`` and ``loss``.

    Source: Ha & Schmidhuber (2018), section 2.2 and appendix A.2.
    """
    latents, actions = latent_obs.transpose(0, 1), action.transpose(0, 1)  # (T, B, ·)
    mus, sigmas, logpi, r, d = mdrnn(actions, latents)  # (T, B, K, L) twice, (T, B, K), (T, B) …
    counts = torch.ones_like(d) if mask is None else mask.transpose(0, 1)

    def mean(values: Tensor) -> Tensor:
        return (values * counts).sum() / counts.sum()

    gmm = mean(gmm_loss(latent_next_obs.transpose(0, 1), mus, sigmas, logpi, reduce=False))
    ends = nn.BCEWithLogitsLoss(reduction="none", pos_weight=d.new_tensor(terminal_weight))
    bce = mean(ends(d, terminal.transpose(0, 1)))
    mse = mean((r - reward.transpose(0, 1)).square()) if include_reward else torch.zeros_like(gmm)
    if logpi.ndim == mus.ndim:
        loss = gmm / latent_size + bce + mse
    else:
        loss = (gmm + bce + mse) / (latent_size + 1 + include_reward)
    return {"gmm": gmm, "bce": bce, "mse": mse, "loss": loss}


def mdrnn_from_state(
    state: dict[str, Tensor], latent_size: int, origin: str = "the state dict"
) -> MDRNN:
    """An MDRNN of the sizes and the mixture that its weights have; only L must be told, by V.

    Raises ValueError if the weights are another model's, or for another L.
    """
    try:
        outputs, hiddens = state["gmm_linear.weight"].shape
        actions = state["rnn.weight_ih_l0"].shape[1] - latent_size
    except KeyError as error:
        raise ValueError(f"{origin} holds no MDRNN: {error} is missing") from error
    # A Gaussian has L means, L deviations, and one weight or, of a mixture per latent, L weights.
    per_gaussian = {"vector": 2 * latent_size + 1, "latent": 3 * latent_size}
    fits = [name for name in MIXTURES if (outputs - 2) % per_gaussian[name] == 0]
    if not fits or actions < 1:
        raise ValueError(
            f"{origin}: a head of {outputs} outputs and an input of {actions + latent_size} do not "
            f"fit V's latent_size of {latent_size}: V and M were trained for different sizes"
        )
    gaussians = (outputs - 2) // per_gaussian[fits[0]]
    mdrnn = MDRNN(latent_size, actions, hiddens, gaussians, fits[0])
    load_weights(mdrnn, state, origin)
    return mdrnn.eval()
