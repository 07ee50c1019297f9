"""The loop of V and M, on a model of one number whose losses are known beforehand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from wmlib.loop import History, fit

from wmlib import WMMDNRNNConfig, WMVAEConfig
from wmlib.checkpoints import load_checkpoint, save_checkpoint


class Script:
    """Held-out losses, written down in advance; the batch of an epoch is its number."""

    def __init__(self, losses: list[float]) -> None:
        self.losses = losses

    def __len__(self) -> int:
        return len(self.losses[:1])

    def __call__(self, epoch: int) -> Iterator[Any]:
        yield from self.losses[epoch : epoch + 1]


class Noise:
    """Four random targets per epoch, from the state that the loop has seeded."""

    def __len__(self) -> int:
        return 4

    def __call__(self, epoch: int) -> Iterator[Any]:
        for _ in range(4):
            yield torch.randn(3)


@pytest.fixture
def config(tmp_path: Path) -> WMVAEConfig:
    return WMVAEConfig(64, 64, num_epochs=4, logdir=str(tmp_path), learning_rate=0.1)


def run(
    config: WMVAEConfig | WMMDNRNNConfig,
    held_out: list[float],
    model: nn.Module | None = None,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
    **kwargs: Any,
) -> History:
    torch.manual_seed(0)
    model = model or nn.Linear(3, 1, bias=False)

    def loss(batch: Tensor | float) -> dict[str, Tensor]:
        if isinstance(batch, float):
            return {"loss": torch.tensor(batch)}
        return {"loss": (model(batch) - batch.sum()).pow(2).sum()}

    tools = optimizer(model.parameters(), lr=config.learning_rate)
    return fit(
        "vae", model, tools, config, loss, Noise(), Script(held_out), display=False, **kwargs
    )


def stop_after(epochs: int) -> Any:
    """Ends the training as Ctrl-C does, once an epoch is over."""

    def on_sample(model: nn.Module, epoch: int) -> None:
        if epoch == epochs:
            raise KeyboardInterrupt

    return on_sample


def same(a: Any, b: Any) -> bool:
    """Whether two checkpoints hold exactly the same, but for the time they took."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(torch.equal(a, b) if isinstance(a, Tensor) else a == b)


@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop])
def test_a_stopped_training_ends_where_a_straight_one_does(
    tmp_path: Path, schedule: str, optimizer: type[torch.optim.Optimizer]
) -> None:
    losses = [3.0, 2.0, 2.5, 2.2]
    ends = []
    for folder, stops in (("straight", []), ("stopped", [1, 3])):
        config = WMVAEConfig(
            64, 64, num_epochs=4, logdir=str(tmp_path / folder), learning_rate=0.1,
            sample_interval=1, scheduler_patience=0, schedule=schedule,
        )  # fmt: skip
        for epochs in stops:
            with pytest.raises(KeyboardInterrupt):
                run(config, losses, optimizer=optimizer, on_sample=stop_after(epochs))
            record = json.loads((tmp_path / folder / "vae" / "history.json").read_text())
            assert (record["finished"], len(record["epochs"])) == (False, epochs)
        assert len(run(config, losses, optimizer=optimizer)) == 4
        record = json.loads((tmp_path / folder / "vae" / "history.json").read_text())
        assert (record["finished"], len(record["epochs"])) == (True, 4)
        names = ("checkpoint.tar", "best.tar")
        ends.append([load_checkpoint(tmp_path / folder / "vae" / name) for name in names])
    assert same(*ends)
    moved = ends[0][0]["state_dict"]["weight"] - ends[0][1]["state_dict"]["weight"]
    assert moved.abs().min() > 0  # the best are not the last: there was something to get wrong


def test_the_rate_asked_for_holds_when_it_is_lower(config: WMVAEConfig) -> None:
    run(config, [3.0, 2.0])
    config.num_epochs, config.learning_rate = 5, 0.01
    assert [row["lr"] for row in run(config, [3.0, 2.0, 2.0, 2.0, 2.0])][3:] == [0.1, 0.01]


def test_the_best_is_kept_and_so_is_the_last(config: WMVAEConfig, tmp_path: Path) -> None:
    history = run(config, [3.0, 1.0, 2.0, 1.5])
    assert [row["test_loss"] for row in history] == [3.0, 1.0, 2.0, 1.5]
    best, last = (load_checkpoint(tmp_path / "vae" / f"{n}.tar") for n in ("best", "checkpoint"))
    assert (best["epoch"], best["loss"]) == (2, 1.0)
    assert (last["epoch"], last["loss"]) == (4, 1.5)


def test_it_stops_when_patience_is_at_its_end(config: WMVAEConfig, tmp_path: Path) -> None:
    config.num_epochs, config.early_stopping_patience = 9, 1
    losses = [-1.0, -3.0, -2.0, -2.5, -9.0]  # getting worse below zero is worse
    assert len(run(config, losses)) == 4
    assert load_checkpoint(tmp_path / "vae" / "best.tar")["epoch"] == 2
    assert len(run(config, losses)) == 4  # and stays so


def test_the_rate_falls_on_a_plateau(config: WMVAEConfig) -> None:
    config.scheduler_patience, config.scheduler_factor = 0, 0.5
    assert [row["lr"] for row in run(config, [1.0, 1.0, 1.0, 0.5])] == [0.1, 0.1, 0.05, 0.025]


def test_the_rate_follows_half_a_cosine(config: WMVAEConfig) -> None:
    config.schedule = "cosine"
    rates = [row["lr"] for row in run(config, [1.0] * 4)]
    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)


def test_where_nothing_is_held_out_the_training_loss_decides(
    config: WMVAEConfig, tmp_path: Path
) -> None:
    history = run(config, [])
    assert "test_loss" not in history[0]
    best = load_checkpoint(tmp_path / "vae" / "best.tar")
    assert best["loss"] == min(row["loss"] for row in history)


def test_noreload_begins_anew(config: WMVAEConfig) -> None:
    run(config, [1.0] * 4)
    config.noreload = True
    again = run(config, [2.0] * 4)
    assert [row["test_loss"] for row in again] == [2.0] * 4


def test_another_seed_is_another_training(config: WMVAEConfig) -> None:
    first = [row["loss"] for row in run(config, [1.0] * 4)]
    config.noreload = True
    assert [row["loss"] for row in run(config, [1.0] * 4)] == first
    config.seed = 1
    assert [row["loss"] for row in run(config, [1.0] * 4)] != first


def test_gradients_are_clipped(tmp_path: Path) -> None:
    config = WMMDNRNNConfig(num_epochs=1, logdir=str(tmp_path), learning_rate=1.0, grad_clip=0.01)
    model = nn.Linear(3, 1, bias=False)
    before = model.weight.detach().clone()
    run(config, [1.0], model, torch.optim.SGD)
    assert 0 < (model.weight - before).norm() <= 4 * 0.01 + 1e-6  # four steps


@pytest.mark.parametrize("losses", [[1.0, float("nan")], [1.0, float("inf")]])
def test_a_loss_that_is_no_number_keeps_what_there_was(
    config: WMVAEConfig, tmp_path: Path, losses: list[float]
) -> None:
    with pytest.raises(FloatingPointError, match=r"no longer a number in epoch 2 .* learning rate"):
        run(config, losses)
    kept = load_checkpoint(tmp_path / "vae" / "checkpoint.tar")
    assert kept["epoch"] == 1
    assert kept["state_dict"]["weight"].isfinite().all()
    assert len(run(config, [1.0] * 4)) == 4  # and can be gone on with


def test_weights_that_are_no_numbers_are_not_saved(config: WMVAEConfig, tmp_path: Path) -> None:
    """The last step of an epoch can spoil them with every loss before it still in order."""
    config.learning_rate = 1e38
    with pytest.raises(FloatingPointError):
        run(config, [1.0], optimizer=torch.optim.SGD)
    assert not (tmp_path / "vae" / "checkpoint.tar").exists()


def test_a_checkpoint_without_its_training_is_refused(config: WMVAEConfig, tmp_path: Path) -> None:
    path = tmp_path / "vae" / "checkpoint.tar"
    save_checkpoint(path, {"state_dict": nn.Linear(3, 1, bias=False).state_dict()})
    with pytest.raises(ValueError, match=rf"{path} holds no .*'optimizer'.*noreload"):
        run(config, [1.0])


def test_another_optimisers_checkpoint_is_refused(config: WMVAEConfig) -> None:
    run(config, [1.0])
    config.num_epochs = 9
    with pytest.raises(ValueError, match="another optimiser than this RMSprop"):
        run(config, [1.0], optimizer=torch.optim.RMSprop)


def test_samples_come_every_few_epochs_and_at_the_end(config: WMVAEConfig) -> None:
    seen: list[int] = []
    config.num_epochs, config.sample_interval = 5, 2
    run(config, [1.0] * 5, on_sample=lambda model, epoch: seen.append(epoch))
    assert seen == [2, 4, 5]
    config.noreload = config.nosamples = True
    run(config, [1.0] * 5, on_sample=lambda model, epoch: seen.append(epoch))
    assert seen == [2, 4, 5]


def test_tensorboard_has_every_number(config: WMVAEConfig, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = run(config, [1.0, 2.0, 3.0, 4.0])
    board = EventAccumulator(str(tmp_path / "vae" / "tensorboard")).Reload()
    assert {f"vae/{key}" for key in history[0]} == set(board.Tags()["scalars"])
    assert [event.value for event in board.Scalars("vae/test_loss")] == [1.0, 2.0, 3.0, 4.0]
