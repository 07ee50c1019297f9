"""M: the sequence model against the looped cell, the loss against torch.distributions."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Independent, MixtureSameFamily, Normal

from wmlib.mdrnn import MDRNN, MDRNNCell, get_loss, mdrnn_from_state

L, A, H, K = 6, 3, 16, 4
T, B = 7, 5


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def mdrnn() -> MDRNN:
    return MDRNN(L, A, H, K)


def sequences(steps: int = T, batch: int = B) -> tuple[Tensor, Tensor]:
    return torch.randn(steps, batch, A), torch.randn(steps, batch, L)


def reference(mus: Tensor, sigmas: Tensor, logpi: Tensor) -> MixtureSameFamily:
    return MixtureSameFamily(Categorical(logits=logpi), Independent(Normal(mus, sigmas), 1))


# ------------------------------------------------------------------------ the sequence model


def test_the_papers_number_of_parameters() -> None:
    model = MDRNN(32, 3, 256, 5)
    assert sum(parameter.numel() for parameter in model.parameters()) == 384_071
    cell = MDRNNCell(32, 3, 256, 5)
    assert sum(parameter.numel() for parameter in cell.parameters()) == 384_071


def test_sequence_shapes(mdrnn: MDRNN) -> None:
    mus, sigmas, logpi, rewards, terminals = mdrnn(*sequences())
    assert mus.shape == sigmas.shape == (T, B, K, L)
    assert logpi.shape == (T, B, K)
    assert rewards.shape == terminals.shape == (T, B)


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 4), (9, 1)])
def test_dimensions_of_length_one_are_kept(mdrnn: MDRNN, steps: int, batch: int) -> None:
    outputs = mdrnn(*sequences(steps, batch))
    assert [tuple(output.shape[:2]) for output in outputs] == [(steps, batch)] * 5


@pytest.mark.parametrize("gaussians", [1, 3])
def test_other_numbers_of_gaussians(gaussians: int) -> None:
    mus, _, logpi, _, _ = MDRNN(L, A, H, gaussians)(*sequences())
    assert (mus.shape[-2], logpi.shape[-1]) == (gaussians, gaussians)


def test_sigmas_are_positive_and_finite_whatever_the_head_emits(mdrnn: MDRNN) -> None:
    mdrnn.gmm_linear.weight.data.mul_(1e6)
    sigmas = mdrnn(*sequences())[1]
    assert sigmas.isfinite().all()
    assert sigmas.min() > 0


def test_mixture_weights_sum_to_one(mdrnn: MDRNN) -> None:
    logpi = mdrnn(*sequences())[2]
    torch.testing.assert_close(logpi.exp().sum(-1), torch.ones(T, B))


def test_every_parameter_gets_a_gradient(mdrnn: MDRNN) -> None:
    sum(output.sum() for output in mdrnn(*sequences())).backward()
    for name, parameter in mdrnn.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"


def test_the_gradient_reaches_the_inputs(mdrnn: MDRNN) -> None:
    actions, latents = (part.requires_grad_() for part in sequences())
    mdrnn(actions, latents)[0][-1].sum().backward()
    assert actions.grad[0].abs().sum() > 0  # back through time
    assert latents.grad[0].abs().sum() > 0


def test_the_past_matters_and_the_future_does_not(mdrnn: MDRNN) -> None:
    actions, latents = sequences()
    before = mdrnn(actions, latents)[0]
    latents[3] += 1
    after = mdrnn(actions, latents)[0]
    torch.testing.assert_close(after[:3], before[:3], rtol=0, atol=0)
    assert all(not torch.equal(after[t], before[t]) for t in range(3, T))


def test_rows_of_a_batch_do_not_touch(mdrnn: MDRNN) -> None:
    actions, latents = sequences()
    alone = mdrnn(actions[:, 2:3], latents[:, 2:3])
    for whole, single in zip(mdrnn(actions, latents), alone, strict=True):
        torch.testing.assert_close(whole[:, 2:3], single, rtol=1e-4, atol=1e-5)


def test_the_head_splits_in_the_order_of_the_formats(mdrnn: MDRNN) -> None:
    """Means, raw log-sigmas, mixture logits, reward, end: the order other readers rely on."""
    h = torch.randn(B, H)
    raw = mdrnn.gmm_linear(h)
    mus, sigmas, logpi, reward, terminal = mdrnn.head(h)
    torch.testing.assert_close(mus.flatten(1), raw[:, : K * L])
    torch.testing.assert_close(sigmas.log().flatten(1), raw[:, K * L : 2 * K * L])
    torch.testing.assert_close(logpi, raw[:, 2 * K * L : 2 * K * L + K].log_softmax(-1))
    torch.testing.assert_close(reward, raw[:, -2])
    torch.testing.assert_close(terminal, raw[:, -1])


def test_names_and_shapes_of_the_state_dict() -> None:
    shapes = {name: tuple(value.shape) for name, value in MDRNN(32, 3, 256, 5).state_dict().items()}
    assert shapes == {
        "rnn.weight_ih_l0": (1024, 35), "rnn.weight_hh_l0": (1024, 256),
        "rnn.bias_ih_l0": (1024,), "rnn.bias_hh_l0": (1024,),
        "gmm_linear.weight": (327, 256), "gmm_linear.bias": (327,),
    }  # fmt: skip


def test_actions_come_before_latents(mdrnn: MDRNN) -> None:
    """The input order of the published checkpoints."""
    actions, latents = sequences()
    mdrnn.rnn.weight_ih_l0.data[:, :A] = 0
    torch.testing.assert_close(
        mdrnn(actions, latents), mdrnn(torch.zeros_like(actions), latents), rtol=0, atol=0
    )


# ---------------------------------------------------------------------------------- the cell


def test_cell_shapes() -> None:
    cell = MDRNNCell(L, A, H, K)
    outputs = cell(torch.randn(B, A), torch.randn(B, L), cell.get_init_hidden(B))
    mus, sigmas, logpi, reward, terminal, (h, c) = outputs
    assert mus.shape == sigmas.shape == (B, K, L)
    assert logpi.shape == (B, K)
    assert reward.shape == terminal.shape == (B,)
    assert h.shape == c.shape == (B, H)


def test_a_cell_with_a_batch_of_one() -> None:
    cell = MDRNNCell(L, A, H, K)
    outputs = cell(torch.randn(1, A), torch.randn(1, L), cell.get_init_hidden(1))
    assert [len(output) for output in outputs[:5]] == [1] * 5


def test_the_first_hidden_state_is_zero() -> None:
    cell = MDRNNCell(L, A, H, K)
    for part in cell.get_init_hidden(B):
        assert part.shape == (B, H)
        assert not part.any()


def test_the_first_hidden_states_are_separate_and_fresh() -> None:
    cell = MDRNNCell(L, A, H, K)
    h, c = cell.get_init_hidden(1)
    h += 1
    assert not c.any()
    assert not cell.get_init_hidden(1)[0].any()


def test_the_first_hidden_state_has_the_weights_type() -> None:
    assert MDRNNCell(L, A, H, K).double().get_init_hidden(1)[0].dtype == torch.float64


def test_every_parameter_of_the_cell_gets_a_gradient() -> None:
    cell = MDRNNCell(L, A, H, K)
    hidden = (torch.randn(B, H), torch.randn(B, H))
    outputs = cell(torch.randn(B, A), torch.randn(B, L), hidden)
    sum(output.sum() for output in outputs[:5]).backward()
    for name, parameter in cell.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"


def test_a_step_moves_the_hidden_state_and_leaves_the_old_one() -> None:
    cell = MDRNNCell(L, A, H, K)
    hidden = cell.get_init_hidden(B)
    *_, (h, c) = cell(torch.randn(B, A), torch.randn(B, L), hidden)
    assert h.abs().sum() > 0
    assert c.abs().sum() > 0
    assert not hidden[0].any()


def test_step_is_forward_without_the_head() -> None:
    cell = MDRNNCell(L, A, H, K)
    action, latent, hidden = torch.randn(B, A), torch.randn(B, L), cell.get_init_hidden(B)
    torch.testing.assert_close(
        cell.step(action, latent, hidden), cell(action, latent, hidden)[-1], rtol=0, atol=0
    )


def loop(cell: MDRNNCell, actions: Tensor, latents: Tensor) -> list[Tensor]:
    """Step by step, each (h, c) handed to the next: five tensors as MDRNN gives them."""
    hidden, outputs = cell.get_init_hidden(actions.shape[1]), []
    for action, latent in zip(actions, latents, strict=True):
        *prediction, hidden = cell(action, latent, hidden)
        outputs.append(prediction)
    return [torch.stack(column) for column in zip(*outputs, strict=True)]


def test_the_weight_transfer_gives_the_same_model(mdrnn: MDRNN) -> None:
    """The sequence model against the looped cell, at every step and in every output."""
    actions, latents = sequences(20)
    for whole, looped in zip(
        mdrnn(actions, latents), loop(mdrnn.to_cell(), actions, latents), strict=True
    ):
        torch.testing.assert_close(whole, looped, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 1, T])
def test_watching_is_the_sequence_model_without_its_head(mdrnn: MDRNN, steps: int) -> None:
    """Batch first, as episodes come; no step at all leaves an episode's start."""
    actions, latents = sequences(steps)
    h, c = mdrnn.to_cell().watch(actions.transpose(0, 1), latents.transpose(0, 1))
    expected = (torch.zeros(1, B, H),) * 2
    if steps:
        _, expected = mdrnn.rnn(torch.cat([actions, latents], dim=-1))
    torch.testing.assert_close((h[None], c[None]), tuple(expected))


def test_the_transfer_is_the_pages_own_copying(mdrnn: MDRNN) -> None:
    """Line by line as the reference page does it."""
    cell = MDRNNCell(L, A, H, K)
    cell.rnn.weight_ih.data.copy_(mdrnn.rnn.weight_ih_l0.data)
    cell.rnn.weight_hh.data.copy_(mdrnn.rnn.weight_hh_l0.data)
    cell.rnn.bias_ih.data.copy_(mdrnn.rnn.bias_ih_l0.data)
    cell.rnn.bias_hh.data.copy_(mdrnn.rnn.bias_hh_l0.data)
    cell.gmm_linear.load_state_dict(mdrnn.gmm_linear.state_dict())
    torch.testing.assert_close(
        MDRNNCell.from_mdrnn(mdrnn).state_dict(), cell.state_dict(), rtol=0, atol=0
    )


def test_the_transferred_weights_are_a_copy(mdrnn: MDRNN) -> None:
    cell = mdrnn.to_cell()
    before = cell.gmm_linear.weight.clone()
    mdrnn.gmm_linear.weight.data += 1
    torch.testing.assert_close(cell.gmm_linear.weight, before, rtol=0, atol=0)


def test_a_hidden_state_that_is_not_threaded_is_another_model_fault_22(mdrnn: MDRNN) -> None:
    """Fault 22: a list comprehension hands the first (h, c) to every step, and nothing crashes."""
    actions, latents = sequences()
    cell, mus = mdrnn.to_cell(), mdrnn(actions, latents)[0]
    start = cell.get_init_hidden(B)
    wrong = [
        cell(action, latent, start)[0] for action, latent in zip(actions, latents, strict=True)
    ]
    torch.testing.assert_close(wrong[0], mus[0], rtol=1e-4, atol=1e-5)
    assert all((wrong[t] - mus[t]).abs().max() > 1e-3 for t in range(1, T))


# --------------------------------------------------------------------------------- the loss


def windows() -> dict[str, Tensor]:
    """A batch as a data loader gives it: batch first."""
    return {
        "latent_obs": torch.randn(B, T, L),
        "action": torch.randn(B, T, A),
        "reward": torch.randn(B, T),
        "terminal": (torch.rand(B, T) < 0.2).float(),
        "latent_next_obs": torch.randn(B, T, L),
    }


@pytest.mark.parametrize("include_reward", [True, False])
def test_the_loss_is_the_sum_of_its_parts_scaled(mdrnn: MDRNN, include_reward: bool) -> None:
    """Each part against torch.distributions; the scale is L + 2, or L + 1 without the reward."""
    data = windows()
    losses = get_loss(mdrnn, **data, include_reward=include_reward, latent_size=L)
    time_first = {key: value.transpose(0, 1) for key, value in data.items()}
    mus, sigmas, logpi, r, d = mdrnn(time_first["action"], time_first["latent_obs"])
    gmm = -reference(mus, sigmas, logpi).log_prob(time_first["latent_next_obs"]).mean()
    bce = -Bernoulli(logits=d).log_prob(time_first["terminal"]).mean()
    mse = (r - time_first["reward"]).pow(2).mean() if include_reward else torch.tensor(0.0)
    total = (gmm + bce + mse) / (L + 1 + include_reward)
    expected = {"gmm": gmm, "bce": bce, "mse": mse, "loss": total}
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, msg=lambda text, key=key: f"{key}: {text}")


def test_without_reward_its_head_gets_no_gradient(mdrnn: MDRNN) -> None:
    get_loss(mdrnn, **windows(), include_reward=False, latent_size=L)["loss"].backward()
    assert mdrnn.gmm_linear.bias.grad[-2] == 0
    assert mdrnn.gmm_linear.bias.grad[-1] != 0


def test_training_lowers_the_loss(mdrnn: MDRNN) -> None:
    data, losses = windows(), []
    optimizer = torch.optim.Adam(mdrnn.parameters(), lr=1e-2)
    for _ in range(15):
        loss = get_loss(mdrnn, **data, include_reward=True, latent_size=L)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(later < earlier for earlier, later in pairwise(losses))


# --------------------------------------------------------------------------------- the file


def test_sizes_come_from_the_weights(mdrnn: MDRNN) -> None:
    loaded = mdrnn_from_state(mdrnn.state_dict(), latent_size=L)
    assert (loaded.latents, loaded.actions, loaded.hiddens, loaded.gaussians) == (L, A, H, K)
    torch.testing.assert_close(loaded(*sequences())[0].shape, mdrnn(*sequences())[0].shape)
    torch.testing.assert_close(loaded.state_dict(), mdrnn.state_dict(), rtol=0, atol=0)
    assert not loaded.training


def test_a_v_of_another_size_is_named_with_both(mdrnn: MDRNN) -> None:
    with pytest.raises(ValueError, match=rf"m\.tar.*input of {A + L}.*latent_size of 32"):
        mdrnn_from_state(mdrnn.state_dict(), latent_size=32, origin="m.tar")


def test_a_state_that_is_no_mdrnn_names_its_origin() -> None:
    with pytest.raises(ValueError, match=r"m\.tar holds no MDRNN"):
        mdrnn_from_state(nn.Linear(2, 2).state_dict(), latent_size=L, origin="m.tar")
