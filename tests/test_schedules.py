"""When to slow down, when to stop: against torch's own scheduler where that one is right."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wmlib.checkpoints import load_checkpoint, save_checkpoint
from wmlib.schedules import EarlyStopping, ReduceLROnPlateau


def optimizer(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def stops_after(stopper: EarlyStopping, values: list[float]) -> int | None:
    """How many values it took to stop, None if it never did."""
    for i, value in enumerate(values):
        stopper.step(value)
        if stopper.stop:
            return i + 1
    return None


def rates(schedule: ReduceLROnPlateau, values: list[float]) -> list[float]:
    found = []
    for value in values:
        schedule.step(value)
        found.append(schedule.optimizer.param_groups[0]["lr"])
    return found


# ------------------------------------------------------------------------------ early stopping


def test_a_new_one_does_not_stop() -> None:
    stopper = EarlyStopping()
    assert not stopper.stop
    assert stopper.num_bad_epochs == 0


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_it_stops_after_more_than_patience_bad_epochs(patience: int) -> None:
    assert stops_after(EarlyStopping("min", patience), [1.0] * 20) == 2 + patience


def test_progress_starts_the_count_anew() -> None:
    assert stops_after(EarlyStopping("min", 1), [5, 6, 4, 5, 3, 4, 2, 3]) is None


@pytest.mark.parametrize(("mode", "values"), [("min", [3, 2, 1, 0, -1]), ("max", [-1, 0, 1, 2])])
def test_steady_progress_never_stops(mode: str, values: list[float]) -> None:
    assert stops_after(EarlyStopping(mode, 0), values) is None


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("start", [10.0, 0.5, -0.5, -10.0])
def test_getting_worse_never_counts_as_better_fault_13(
    mode: str, threshold_mode: str, start: float
) -> None:
    """Fault 13: in ``rel`` mode with a negative loss, getting worse counted as better."""
    worse = 0.01 if mode == "min" else -0.01
    values = [start + worse * i for i in range(5)]
    stopper = EarlyStopping(mode, 2, threshold=0.1, threshold_mode=threshold_mode)
    assert stops_after(stopper, values) == 4
    assert stopper.best == start


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("start", [10.0, -10.0])
def test_a_relative_threshold_is_a_part_of_the_bests_size(mode: str, start: float) -> None:
    better = -1.0 if mode == "min" else 1.0
    stopper = EarlyStopping(mode, threshold=0.1, threshold_mode="rel")
    stopper.step(start)
    assert not stopper.is_better(start + 0.99 * better)
    assert stopper.is_better(start + 1.01 * better)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("start", [100.0, 0.0, -100.0])
def test_an_absolute_threshold_is_in_the_metrics_unit(mode: str, start: float) -> None:
    better = -1.0 if mode == "min" else 1.0
    stopper = EarlyStopping(mode, threshold=0.5, threshold_mode="abs")
    stopper.step(start)
    assert not stopper.is_better(start + 0.49 * better)
    assert stopper.is_better(start + 0.51 * better)


@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
def test_a_best_of_zero_is_a_best_fault_13(threshold_mode: str) -> None:
    """Fault 13: ``not cur_best`` treats a best of 0.0 as "none yet"."""
    stopper = EarlyStopping("min", 1, threshold_mode=threshold_mode)
    assert stops_after(stopper, [0.0, 5.0, 4.0]) == 3
    assert stopper.best == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_no_number_is_no_progress(bad: float, mode: str) -> None:
    """Not even as the first value, after which nothing could be better."""
    stopper = EarlyStopping(mode, 5)
    for value in (bad, 1.0, bad):
        stopper.step(value)
    assert (stopper.best, stopper.num_bad_epochs) == (1.0, 1)


def test_tensors_are_numbers_too() -> None:
    stopper = EarlyStopping("min", 0)
    stopper.step(torch.tensor(1.5))
    stopper.step(np.float32(1.25))
    assert stopper.state_dict() == {"best": 1.25, "num_bad_epochs": 0}


# ------------------------------------------------------------------------------- slowing down


def test_the_rate_falls_by_the_factor_after_more_than_patience_bad_epochs() -> None:
    schedule = ReduceLROnPlateau(optimizer(), "min", patience=2, factor=0.1)
    assert rates(schedule, [1.0] * 8) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_the_rate_stays_while_there_is_progress() -> None:
    schedule = ReduceLROnPlateau(optimizer(), "max", patience=0)
    assert rates(schedule, [1, 2, 3, 4]) == [1.0] * 4


def test_every_group_of_parameters_is_slowed() -> None:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    schedule = ReduceLROnPlateau(torch.optim.SGD(groups), patience=0)
    rates(schedule, [1.0, 1.0])
    assert [group["lr"] for group in schedule.optimizer.param_groups] == [0.5, 0.05]


WALKS = [np.random.default_rng(seed).normal(size=60).cumsum().tolist() for seed in range(4)]


@pytest.mark.parametrize("values", WALKS, ids=lambda _: "walk")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_absolute_thresholds_are_torchs(mode: str, values: list[float]) -> None:
    """On random walks above and below zero, the rates are those of torch's scheduler."""
    theirs = optimizer()
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode, factor=0.5, patience=3, threshold=0.2, threshold_mode="abs", eps=0
    )
    expected = []
    for value in values:
        reference.step(value)
        expected.append(theirs.param_groups[0]["lr"])
    ours = ReduceLROnPlateau(optimizer(), mode, 3, 0.2, "abs", factor=0.5)
    assert rates(ours, values) == expected
    assert len(set(expected)) > 2


@pytest.mark.parametrize("values", WALKS, ids=lambda _: "walk")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_relative_thresholds_are_torchs_above_zero(mode: str, values: list[float]) -> None:
    positive, theirs = np.exp(np.array(values) / 5).tolist(), optimizer()
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        theirs, mode, factor=0.5, patience=3, threshold=0.05, threshold_mode="rel", eps=0
    )
    expected = []
    for value in positive:
        reference.step(value)
        expected.append(theirs.param_groups[0]["lr"])
    ours = ReduceLROnPlateau(optimizer(), mode, 3, 0.05, "rel", factor=0.5)
    assert rates(ours, positive) == expected


def test_below_zero_torchs_own_takes_worse_for_better_and_ours_does_not_fault_13() -> None:
    """Fault 13, in torch: a loss that climbs from -10 is progress to it, and keeps the rate up."""
    climbing, theirs = [-10 + 0.1 * i for i in range(10)], optimizer()
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, patience=3, threshold=0.1)
    for value in climbing:
        reference.step(value)
    assert theirs.param_groups[0]["lr"] == 1.0
    ours = ReduceLROnPlateau(optimizer(), "min", 3, threshold=0.1)
    assert rates(ours, climbing)[-1] == 0.25


# ---------------------------------------------------------------------------------- the state


VALUES = WALKS[0]


@pytest.mark.parametrize("cut", [0, 7, 30])
def test_a_resumed_schedule_is_the_straight_one(cut: int) -> None:
    straight = rates(ReduceLROnPlateau(optimizer(), patience=2), VALUES)
    first = ReduceLROnPlateau(optimizer(), patience=2)
    before = rates(first, VALUES[:cut])
    second = ReduceLROnPlateau(optimizer(), patience=2)
    second.load_state_dict(first.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    assert before + rates(second, VALUES[cut:]) == straight


def test_a_resumed_stopper_is_the_straight_one() -> None:
    straight = stops_after(EarlyStopping(patience=12), VALUES)
    first, second = EarlyStopping(patience=12), EarlyStopping(patience=12)
    assert stops_after(first, VALUES[:9]) is None
    second.load_state_dict(first.state_dict())
    assert straight is not None
    assert 9 + stops_after(second, VALUES[9:]) == straight


def test_the_state_is_plain_numbers_fault_6(tmp_path: Path) -> None:
    """Fault 6: ``state_dict()`` pickled the optimizer, and the checkpoint could not be read."""
    schedule, stopper = ReduceLROnPlateau(optimizer()), EarlyStopping()
    for value in (3.0, 4.0):
        schedule.step(value)
        stopper.step(value)
    state = {"scheduler": schedule.state_dict(), "early_stopping": stopper.state_dict()}
    save_checkpoint(tmp_path / "checkpoint.tar", {"state_dict": {}, **state})
    loaded = load_checkpoint(tmp_path / "checkpoint.tar")
    assert {key: loaded[key] for key in state} == state
    assert state["scheduler"] == {"best": 3.0, "num_bad_epochs": 1}


def test_a_fresh_state_goes_round() -> None:
    stopper = EarlyStopping()
    stopper.load_state_dict(EarlyStopping().state_dict())
    assert stopper.best is None


# ------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "low"}, "mode must be 'min' or 'max', found 'low'"),
        ({"threshold_mode": "pct"}, "threshold_mode must be 'rel' or 'abs', found 'pct'"),
        ({"patience": -1}, "patience -1"),
        ({"threshold": -0.1}, r"threshold -0\.1"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EarlyStopping(**settings)
    with pytest.raises(ValueError, match=message):
        ReduceLROnPlateau(optimizer(), **settings)


@pytest.mark.parametrize("factor", [0.0, 1.0, 2.0])
def test_a_factor_that_does_not_lower_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match=f"factor must lie between 0 and 1, found {factor}"):
        ReduceLROnPlateau(optimizer(), factor=factor)
