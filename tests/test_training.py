"""V and M learn, repeat, resume and take a reader's own models, on the counting world.

Their loop, on a model of one number whose losses are known beforehand.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wmlib.training
from wmlib import (
    MDRNN,
    ConvVAE,
    Rollout,
    WMMDNRNNConfig,
    WMVAEConfig,
    save_rollout,
    train_convae,
    train_mdn_rnn,
)
from wmlib.checkpoints import load_checkpoint, save_checkpoint, versions
from wmlib.fast.convolution import UpConv2d
from wmlib.mdrnn import mdrnn_from_state
from wmlib.training import Fit, History
from wmlib.vae import vae_from_state

L, H = 4, 8


@pytest.fixture
def data(counted: Path, tmp_path: Path) -> Path:
    """The counted episodes, with room beside them for latents."""
    folder = tmp_path / "data"
    folder.mkdir()
    for file in counted.glob("*.npz"):
        (folder / file.name).symlink_to(file)
    return folder


@pytest.fixture
def vae_config(data: Path, tmp_path: Path) -> WMVAEConfig:
    return WMVAEConfig(
        64, 64, latent_size=L, num_epochs=1, data_dir=str(data), logdir=str(tmp_path / "log"),
        sample_interval=1, train_batch_size=8, epoch_size=16,
    )  # fmt: skip


@pytest.fixture
def config(data: Path, tmp_path: Path) -> WMMDNRNNConfig:
    return WMMDNRNNConfig(
        L, 2, H, 2, batch_size=8, seq_len=4, num_epochs=1, data_dir=str(data),
        logdir=str(tmp_path / "log"), learning_rate=1e-2,
    )  # fmt: skip


@pytest.fixture(scope="module")
def vae() -> ConvVAE:
    """Untrained, but made to tell one frame from another."""
    torch.manual_seed(0)
    vae = ConvVAE(3, L)
    vae.encoder.fc_mu.weight.data *= 200
    vae.encoder.fc_logsigma.bias.data -= 3
    return vae


def stop_after(epochs: int) -> Callable[[nn.Module, int], None]:
    def on_sample(model: nn.Module, epoch: int) -> None:
        if epoch == epochs:
            raise KeyboardInterrupt

    return on_sample


def weights(logdir: str, stage: str, name: str = "checkpoint.tar") -> dict[str, Tensor]:
    return load_checkpoint(Path(logdir) / stage / name)["state_dict"]


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        assert torch.equal(a[key], b[key]), key


def test_v_learns_and_its_weights_can_be_read(vae_config: WMVAEConfig) -> None:
    vae_config.num_epochs, vae_config.sample_interval = 8, 9
    history = train_convae(vae_config, ConvVAE(3, L), display=False)
    for key in ("loss", "mse", "test_loss", "test_mse"):
        assert history[-1][key] < 0.5 * history[0][key]
    assert vae_from_state(weights(vae_config.logdir, "vae", "best.tar")).latent_size == L


def test_a_fresh_v_begins_as_bright_as_the_data(vae_config: WMVAEConfig) -> None:
    """And so where a V of the reader's own, which draws grey, is only after a while."""
    fresh = train_convae(vae_config, display=False)
    vae_config.noreload = True
    grey = train_convae(vae_config, ConvVAE(3, L), display=False)
    assert fresh[0]["loss"] < 0.5 * grey[0]["loss"]


def test_v_stopped_ends_where_a_straight_run_does(vae_config: WMVAEConfig, tmp_path: Path) -> None:
    vae_config.num_epochs = 3
    straight = train_convae(vae_config, display=False)
    vae_config.logdir = str(tmp_path / "stopped")
    with pytest.raises(KeyboardInterrupt):
        train_convae(vae_config, on_sample=stop_after(2), display=False)
    resumed = train_convae(vae_config, display=False)
    assert [row["test_loss"] for row in resumed] == [row["test_loss"] for row in straight]
    for name in ("checkpoint.tar", "best.tar"):
        assert_same(
            weights(str(tmp_path / "log"), "vae", name), weights(vae_config.logdir, "vae", name)
        )


def test_m_learns_and_its_weights_can_be_read(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig, vae: ConvVAE
) -> None:
    config.num_epochs = 8
    history = train_mdn_rnn(vae_config, config, vae, display=False)
    for key in ("test_gmm", "test_mse", "test_bce", "test_loss"):  # the same windows each time
        assert history[-1][key] < 0.9 * history[0][key]
    mdrnn = mdrnn_from_state(weights(config.logdir, "mdrnn", "best.tar"), L)
    assert (mdrnn.actions, mdrnn.hiddens, mdrnn.gaussians) == (2, H, 2)


@pytest.mark.parametrize("precompute", [True, False])
def test_m_stopped_ends_where_a_straight_run_does(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig, vae: ConvVAE, tmp_path: Path, precompute: bool
) -> None:
    """With V in the same logdir, whose files are none of M's business."""
    config.num_epochs, config.scheduler_patience = 6, 0
    ends = []
    for folder, stops in (("log", []), ("stopped", [4])):
        config.logdir = vae_config.logdir = str(tmp_path / folder)
        save_checkpoint(tmp_path / folder / "vae" / "best.tar", {"state_dict": vae.state_dict()})
        save_checkpoint(tmp_path / folder / "vae" / "checkpoint.tar", {"state_dict": {}})
        for epochs in stops:
            with pytest.raises(KeyboardInterrupt):
                train_mdn_rnn(
                    vae_config, config, None, None, precompute, stop_after(epochs), display=False
                )
            kept = load_checkpoint(tmp_path / folder / "mdrnn" / "checkpoint.tar")
            assert len(kept["history"]) == 3
        train_mdn_rnn(vae_config, config, precompute=precompute, display=False)
        ends.append(load_checkpoint(tmp_path / folder / "mdrnn" / "checkpoint.tar"))
    assert_same(ends[0]["state_dict"], ends[1]["state_dict"])
    assert ends[0]["scheduler"] == ends[1]["scheduler"]
    losses = [row["test_loss"] for row in ends[0]["history"]]
    assert ends[0]["scheduler"]["best"] == pytest.approx(min(losses), rel=1e-3)


def test_the_same_seed_gives_the_same_model_and_another_another(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig, vae: ConvVAE
) -> None:
    first = train_mdn_rnn(vae_config, config, vae, display=False)[0]["loss"]
    config.noreload = True
    assert train_mdn_rnn(vae_config, config, vae, display=False)[0]["loss"] == first
    config.seed = 1
    assert train_mdn_rnn(vae_config, config, vae, display=False)[0]["loss"] != first


def test_held_out_are_the_last_files_whole(data: Path, vae_config: WMVAEConfig) -> None:
    """Fault 11 counted 600 windows where 600 files were meant; a tenth of 10 files is 1 here."""
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = nn.Parameter(torch.zeros(1, L))

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            if not self.training:
                seen.append((255 * x[:, :2, 0, 0]).round())
            mu = self.level.expand(len(x), L)
            return x * self.level.sum(), mu, mu

    train_convae(vae_config, Watch(), display=False)
    files = sorted(data.glob("*.npz"))[-1:]
    held_out = np.concatenate([np.load(file)["observations"][:, 0, 0, :2] for file in files])
    np.testing.assert_array_equal(
        np.unique(torch.cat(seen), axis=0), np.unique(held_out.astype(np.float32), axis=0)
    )
    assert len(torch.cat(seen)) == len(held_out)


def test_a_transform_is_applied_to_every_frame(vae_config: WMVAEConfig) -> None:
    history = train_convae(vae_config, transform=torch.zeros_like, display=False)
    # An untrained decoder gives about ½ everywhere: ¼ per value of a black frame.
    assert history[0]["mse"] < 0.3 * 64 * 64 * 3
    vae_config.noreload = True
    white = train_convae(vae_config, transform=lambda x: torch.full_like(x, 9.0), display=False)
    assert white[0]["mse"] > 60 * 64 * 64 * 3


def test_a_readers_own_vae_is_trained_and_saved(vae_config: WMVAEConfig) -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.tail = nn.Linear(3, 2 * L), nn.Linear(L, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            mu, logsigma = self.head(x.mean(dim=(2, 3))).chunk(2, dim=-1)
            recon = self.tail(mu)[..., None, None].sigmoid().expand_as(x)
            return recon, mu, logsigma

    history = train_convae(vae_config, Flat(), display=False)
    assert np.isfinite(history[0]["test_loss"])
    assert weights(vae_config.logdir, "vae").keys() == Flat().state_dict().keys()


def test_a_readers_own_memory_is_trained_and_saved(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig, vae: ConvVAE
) -> None:
    gru = MDRNN(L, 2, H, 2)
    gru.rnn = nn.GRU(L + 2, H)
    config.num_epochs = 4
    history = train_mdn_rnn(vae_config, config, vae, gru, display=False)
    assert history[-1]["test_loss"] < history[0]["test_loss"]
    assert weights(config.logdir, "mdrnn")["rnn.weight_ih_l0"].shape == (3 * H, L + 2)


@pytest.mark.parametrize("stage", ["vae", "mdrnn"])
def test_compiled_models_are_saved_under_plain_names(
    vae_config: WMVAEConfig,
    config: WMMDNRNNConfig,
    vae: ConvVAE,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    compile_ = lambda model, device: torch.compile(model, backend="eager")  # noqa: E731
    monkeypatch.setattr(wmlib.training, "compiled", compile_)
    if stage == "vae":
        train_convae(vae_config, display=False)
        assert weights(vae_config.logdir, "vae").keys() == vae.state_dict().keys()
    else:
        train_mdn_rnn(vae_config, config, vae, display=False)
        assert weights(config.logdir, "mdrnn").keys() == MDRNN(L, 2, H, 2).state_dict().keys()


@pytest.mark.usefixtures("float32")
def test_without_the_fast_folder_v_and_m_learn_the_same(
    vae_config: WMVAEConfig,
    config: WMMDNRNNConfig,
    vae: ConvVAE,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vae_config.noreload = config.noreload = True
    rows: list[list[float]] = []
    for fast in ("1", "0"):
        monkeypatch.setenv("WMLIB_FAST", fast)
        v, m = ConvVAE(3, L), MDRNN(L, 2, H, 2)
        for model in (v, m):
            torch.manual_seed(1)
            for parameter in model.parameters():
                nn.init.normal_(parameter, std=0.05)
        history = train_convae(vae_config, v, display=False)
        history += train_mdn_rnn(vae_config, config, vae, m, display=False)
        rows.append([row[key] for row in history for key in ("loss", "test_loss")])
        assert type(v.decoder.deconv2) is (nn.ConvTranspose2d if fast == "0" else UpConv2d)
    assert rows[0] == pytest.approx(rows[1], rel=1e-3)


def test_actions_of_another_size_are_refused(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig, vae: ConvVAE
) -> None:
    config.action_size = 3
    with pytest.raises(ValueError, match=r"actions of size 2, .*action_size is 3"):
        train_mdn_rnn(vae_config, config, vae, display=False)


def test_latents_of_another_size_are_refused(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig
) -> None:
    wider = ConvVAE(3, L + 1).state_dict()
    save_checkpoint(Path(vae_config.logdir) / "vae" / "best.tar", {"state_dict": wider})
    with pytest.raises(ValueError, match=r"latent_size 5, the configuration says 4"):
        train_mdn_rnn(vae_config, config, display=False)


def test_a_single_episode_is_enough(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig, vae: ConvVAE, tmp_path: Path
) -> None:
    vae_config.data_dir = config.data_dir = str(tmp_path / "one")
    steps = np.zeros(6, np.float32)
    frames = np.zeros((6, 64, 64, 3), np.uint8)
    episode = Rollout(frames, np.zeros((6, 2), np.float32), steps, steps, frames[0])
    save_rollout(tmp_path / "one" / "rollout.npz", episode)
    rows: list[dict[str, Any]] = train_convae(vae_config, display=False)
    rows += train_mdn_rnn(vae_config, config, vae, display=False)
    assert not any(key.startswith("test_") for row in rows for key in row)


# ---------------------------------------------------------------------------------- the loop


class Script:
    """Held-out losses, written down in advance; the batch of an epoch is its number."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def __len__(self) -> int:
        return len(self.losses[:1])

    def __call__(self, epoch: int) -> Iterator[Any]:
        yield from self.losses[epoch : epoch + 1]


class Targets:
    """Four random targets per epoch, from the state that the loop has seeded."""

    def __len__(self) -> int:
        return 4

    def __call__(self, epoch: int) -> Iterator[Any]:
        for _ in range(4):
            yield torch.randn(3)


@pytest.fixture
def loop(tmp_path: Path) -> WMVAEConfig:
    return WMVAEConfig(64, 64, num_epochs=4, logdir=str(tmp_path), learning_rate=0.1)


def run(
    config: WMVAEConfig | WMMDNRNNConfig,
    held_out: list[float],
    model: nn.Module | None = None,
    optimizer: type[torch.optim.Optimizer] | None = None,
    train: Any = None,
    on_sample: Any = None,
    sample_interval: int = 1,
    **kwargs: Any,
) -> History:
    """Another ``optimizer`` than the loop's own takes bare steps, for what Adam would hide."""
    torch.manual_seed(0)
    model = model or nn.Linear(3, 1, bias=False)

    def loss(batch: Tensor | float) -> dict[str, Tensor]:
        if isinstance(batch, float):
            return {"loss": torch.tensor(batch)}
        return {"loss": (model(batch) - batch.sum()).pow(2).sum()}

    fit = Fit("vae", model, config, loss, False, **kwargs)
    if optimizer is not None:
        fit.optimizer = optimizer(model.parameters(), lr=config.learning_rate)
    return fit.run(train or Targets(), Script(held_out), on_sample, sample_interval)


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints hold exactly the same, but for the time they took."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(torch.equal(a, b) if isinstance(a, Tensor) else a == b)


def test_a_stopped_training_ends_where_a_straight_one_does(tmp_path: Path) -> None:
    losses = [3.0, 2.0, 2.5, 2.2]
    ends = []
    for folder, stops in (("straight", []), ("stopped", [2, 4])):
        config = WMVAEConfig(
            64, 64, num_epochs=4, logdir=str(tmp_path / folder), learning_rate=0.1,
            scheduler_patience=0,
        )  # fmt: skip
        for epoch in stops:  # while its picture is drawn: it will be run again
            with pytest.raises(KeyboardInterrupt):
                run(config, losses, on_sample=stop_after(epoch))
            record = json.loads((tmp_path / folder / "vae" / "history.json").read_text())
            assert (record["finished"], len(record["epochs"])) == (False, epoch - 1)
        assert len(run(config, losses)) == 4
        record = json.loads((tmp_path / folder / "vae" / "history.json").read_text())
        assert (record["finished"], len(record["epochs"])) == (True, 4)
        names = ("checkpoint.tar", "best.tar")
        ends.append([load_checkpoint(tmp_path / folder / "vae" / name) for name in names])
    for one in ends[1]:
        one["config"]["logdir"] = ends[0][0]["config"]["logdir"]
    assert same(*ends)
    moved = ends[0][0]["state_dict"]["weight"] - ends[0][1]["state_dict"]["weight"]
    assert moved.abs().min() > 0  # the best are not the last: there was something to get wrong


def test_a_picture_that_was_not_drawn_is_drawn_again(loop: WMVAEConfig) -> None:
    drawn: list[int] = []

    def draw(model: nn.Module, epoch: int) -> None:
        if epoch == 2 and not drawn.count(2):
            drawn.append(epoch)
            raise KeyboardInterrupt
        drawn.append(epoch)

    with pytest.raises(KeyboardInterrupt):
        run(loop, [1.0] * 4, on_sample=draw)
    run(loop, [1.0] * 4, on_sample=draw)
    assert drawn == [1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("learning_rate", 0.2), ("seed", 1), ("beta", 2.0), ("scheduler_patience", 1)],
)
def test_a_training_resumed_with_another_setting_names_it(
    loop: WMVAEConfig, setting: str, value: float
) -> None:
    run(loop, [1.0] * 4)
    before = getattr(loop, setting)
    loop.num_epochs = 9
    setattr(loop, setting, value)
    with pytest.raises(
        ValueError, match=rf"checkpoint\.tar was recorded with {setting} = {before}, now {value}; "
    ):
        run(loop, [1.0] * 9)


def test_the_rate_asked_for_holds_when_it_is_lower(loop: WMVAEConfig) -> None:
    """What the message about a loss that is no number asks for. The cosine goes on beneath it."""
    with pytest.raises(KeyboardInterrupt):
        run(loop, [3.0] * 4, on_sample=stop_after(3))
    loop.learning_rate = 0.01
    with pytest.raises(KeyboardInterrupt):
        run(loop, [3.0] * 4, on_sample=stop_after(4))
    rates = [row["lr"] for row in run(loop, [3.0] * 4)]
    assert rates == pytest.approx([0.1, 0.0853553, 0.005, 0.00146447], rel=1e-5)


def test_a_training_may_move_and_go_on_for_longer(loop: WMVAEConfig, tmp_path: Path) -> None:
    run(loop, [1.0] * 4)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "vae").rename(tmp_path / "elsewhere" / "vae")
    loop.logdir, loop.num_epochs, loop.data_dir = str(tmp_path / "elsewhere"), 6, "elsewhere"
    loop.device, loop.nosamples, loop.early_stopping_patience = "cpu", True, 40
    assert [row["epoch"] for row in run(loop, [1.0] * 6)] == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_says_what_it_was_made_with(loop: WMVAEConfig, tmp_path: Path) -> None:
    run(loop, [1.0])
    for name in ("best", "checkpoint"):
        state = load_checkpoint(tmp_path / "vae" / f"{name}.tar")
        assert state["config"] == loop.to_dict()
        assert state["versions"] == versions()


def test_the_best_is_kept_and_so_is_the_last(loop: WMVAEConfig, tmp_path: Path) -> None:
    history = run(loop, [3.0, 1.0, 2.0, 1.5])
    assert [row["test_loss"] for row in history] == [3.0, 1.0, 2.0, 1.5]
    best, last = (load_checkpoint(tmp_path / "vae" / f"{n}.tar") for n in ("best", "checkpoint"))
    assert (best["epoch"], best["loss"]) == (2, 1.0)
    assert (last["epoch"], last["loss"]) == (4, 1.5)


def test_it_stops_when_patience_is_at_its_end(loop: WMVAEConfig, tmp_path: Path) -> None:
    loop.num_epochs, loop.early_stopping_patience = 9, 1
    losses = [-1.0, -3.0, -2.0, -2.5, -9.0]  # getting worse below zero is worse
    assert len(run(loop, losses)) == 4
    assert load_checkpoint(tmp_path / "vae" / "best.tar")["epoch"] == 2
    assert len(run(loop, losses)) == 4  # and stays so


def test_the_rate_follows_half_a_cosine(loop: WMVAEConfig) -> None:
    rates = [row["lr"] for row in run(loop, [4.0, 3.0, 2.0, 1.0])]
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)


def test_the_rate_falls_on_a_plateau_too(loop: WMVAEConfig) -> None:
    """Twice by half, after the second and the third epoch, and by the cosine all the while."""
    loop.scheduler_patience, loop.scheduler_factor = 0, 0.5
    cosine = [0.1, 0.0853553, 0.05, 0.0146447]
    found = [row["lr"] for row in run(loop, [1.0, 1.0, 1.0, 0.5])]
    halves = [1, 1, 1 / 2, 1 / 4]
    assert found == pytest.approx([a * b for a, b in zip(cosine, halves, strict=True)], rel=1e-5)


def test_where_nothing_is_held_out_the_training_loss_decides(
    loop: WMVAEConfig, tmp_path: Path
) -> None:
    history = run(loop, [])
    assert "test_loss" not in history[0]
    best = load_checkpoint(tmp_path / "vae" / "best.tar")
    assert best["loss"] == min(row["loss"] for row in history)


def test_noreload_begins_anew(loop: WMVAEConfig) -> None:
    run(loop, [1.0] * 4)
    loop.noreload = True
    again = run(loop, [2.0] * 4)
    assert [row["test_loss"] for row in again] == [2.0] * 4


def test_another_seed_is_another_training(loop: WMVAEConfig) -> None:
    first = [row["loss"] for row in run(loop, [1.0] * 4)]
    loop.noreload = True
    assert [row["loss"] for row in run(loop, [1.0] * 4)] == first
    loop.seed = 1
    assert [row["loss"] for row in run(loop, [1.0] * 4)] != first


@pytest.mark.parametrize("clip", [0.01, None])
def test_gradients_are_clipped_where_a_norm_is_given(loop: WMVAEConfig, clip: float | None) -> None:
    loop.num_epochs, loop.learning_rate = 1, 1e-3
    model = nn.Linear(3, 1, bias=False)
    before = model.weight.detach().clone()
    limit = {} if clip is None else {"clip": clip}
    run(loop, [1.0], model, torch.optim.SGD, **limit)
    moved = float((model.weight.detach() - before).norm()) / loop.learning_rate
    assert moved <= 4 * 0.01 + 1e-4 if clip else moved > 1  # four steps


def test_the_loop_clips_m_and_not_v(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig, vae: ConvVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    clip = nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        nn.utils, "clip_grad_norm_", lambda weights, norm: norms.append(norm) or clip(weights, norm)
    )
    train_convae(vae_config, display=False)
    assert set(norms) == {math.inf}
    norms.clear()
    train_mdn_rnn(vae_config, config, vae, display=False)
    assert set(norms) == {1.0}


@pytest.mark.parametrize("losses", [[1.0, float("nan")], [1.0, float("inf")]])
def test_a_loss_that_is_no_number_keeps_what_there_was(
    loop: WMVAEConfig, tmp_path: Path, losses: list[float]
) -> None:
    with pytest.raises(FloatingPointError, match=r"no longer a number in epoch 2 .* learning rate"):
        run(loop, losses)
    kept = load_checkpoint(tmp_path / "vae" / "checkpoint.tar")
    assert kept["epoch"] == 1
    assert kept["state_dict"]["weight"].isfinite().all()
    assert len(run(loop, [1.0] * 4)) == 4  # and can be gone on with


class OneStep(Targets):
    """An epoch of a single step."""

    def __len__(self) -> int:
        return 1

    def __call__(self, epoch: int) -> Iterator[Any]:
        yield torch.full((3,), 9.0)


def test_weights_that_are_no_numbers_are_not_saved(loop: WMVAEConfig, tmp_path: Path) -> None:
    """The last step of an epoch can spoil them with every loss before it still in order."""
    loop.learning_rate = 1e38
    with pytest.raises(FloatingPointError, match=r"epoch 1 \({'loss': \d"):
        run(loop, [1.0], optimizer=torch.optim.SGD, train=OneStep())
    assert not (tmp_path / "vae" / "checkpoint.tar").exists()


def test_a_checkpoint_without_its_training_is_refused(loop: WMVAEConfig, tmp_path: Path) -> None:
    path = tmp_path / "vae" / "checkpoint.tar"
    for name in ("checkpoint.tar", "best.tar"):
        payload = {"state_dict": nn.Linear(3, 1, bias=False).state_dict()}
        save_checkpoint(path.with_name(name), payload)
    with pytest.raises(ValueError, match=rf"{path} holds no .*'optimizer'.*noreload"):
        run(loop, [1.0])


def test_another_optimisers_checkpoint_is_refused(loop: WMVAEConfig, tmp_path: Path) -> None:
    run(loop, [1.0])
    path = tmp_path / "vae" / "checkpoint.tar"
    other = torch.optim.RMSprop(nn.Linear(3, 1, bias=False).parameters()).state_dict()
    save_checkpoint(path, load_checkpoint(path) | {"optimizer": other})
    loop.num_epochs = 9
    with pytest.raises(ValueError, match="written by another optimiser than this Adam"):
        run(loop, [1.0])


def test_samples_come_every_few_epochs_and_at_the_end(loop: WMVAEConfig) -> None:
    seen: list[int] = []
    loop.num_epochs = 5
    run(loop, [1.0] * 5, on_sample=lambda model, epoch: seen.append(epoch), sample_interval=2)
    assert seen == [2, 4, 5]


def test_samples_of_v_can_be_left_out(vae_config: WMVAEConfig) -> None:
    seen: list[int] = []
    vae_config.num_epochs = 3
    train_convae(vae_config, on_sample=lambda model, epoch: seen.append(epoch), display=False)
    assert seen == [1, 2, 3]
    vae_config.noreload = vae_config.nosamples = True
    train_convae(vae_config, on_sample=lambda model, epoch: seen.append(epoch), display=False)
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, [1]), (4, [1, 2, 3, 4]), (6, [2, 4, 6]), (10, [3, 6, 9, 10])]
)
def test_m_shows_itself_four_times_at_most(
    vae_config: WMVAEConfig, config: WMMDNRNNConfig, vae: ConvVAE, epochs: int, expected: list[int]
) -> None:
    seen: list[int] = []
    config.num_epochs = epochs
    show = lambda model, epoch: seen.append(epoch)  # noqa: E731
    train_mdn_rnn(vae_config, config, vae, on_sample=show, display=False)
    assert seen == expected


def test_tensorboard_has_every_number(loop: WMVAEConfig, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = run(loop, [1.0, 2.0, 3.0, 4.0])
    board = EventAccumulator(str(tmp_path / "vae" / "tensorboard")).Reload()
    assert {f"vae/{key}" for key in history[0]} == set(board.Tags()["scalars"])
    assert [event.value for event in board.Scalars("vae/test_loss")] == [1.0, 2.0, 3.0, 4.0]
