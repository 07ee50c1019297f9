"""A report has a row for every agent, loses none to a crash, and keeps none of other weights."""

from pathlib import Path

import pytest
import torch
import wmlib.report
from wmlib.report import score_all

from wmlib import MDRNN, Controller, ConvVAE, WorldModel

BEST = "V + M, the shipped agent"


@pytest.fixture
def world() -> WorldModel:
    controllers = {"shipped": Controller(5, 7, 2)}
    return WorldModel(
        ConvVAE(3, 5), MDRNN(5, 2, 7, 2), controllers, {"env_name": "counting_env:Counting-v0"}
    )


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The agents that were scored; power fails before the third."""
    names: list[str] = []

    def evaluated(agent: object, name: str, **rest: object) -> dict[str, object]:
        if len(names) == 2:
            raise KeyboardInterrupt
        names.append(name)
        return {"agent": name}

    monkeypatch.setattr(wmlib.report, "evaluate", evaluated)
    return names


def test_rows_that_are_there_are_kept(world: WorldModel, played: list[str], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score_all(world, tmp_path / "report.json", episodes=1)
    assert played == ["random policy", BEST]
    played.clear()
    rows = score_all(world, tmp_path / "report.json", episodes=1)
    assert played == [f"{BEST}, z sampled", BEST]
    assert [row["agent"] for row in rows] == ["random policy", BEST, *played]


@pytest.mark.parametrize("change", ["episodes", "seed"])
def test_rows_of_other_tracks_are_measured_again(
    world: WorldModel, played: list[str], tmp_path: Path, change: str
) -> None:
    options = {"episodes": 1, "seed": 0}
    with pytest.raises(KeyboardInterrupt):
        score_all(world, tmp_path / "report.json", **options)
    options[change] += 1
    before, played[:] = list(played), []
    with pytest.raises(KeyboardInterrupt):
        score_all(world, tmp_path / "report.json", **options)
    assert played == before


@pytest.mark.parametrize("change", ["driver", "variant", "memory"])
def test_rows_of_other_weights_are_measured_again_and_no_others(
    world: WorldModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    played: list[str] = []

    def evaluated(agent: object, name: str, **rest: object) -> dict[str, object]:
        played.append(name)
        return {"agent": name}

    monkeypatch.setattr(wmlib.report, "evaluate", evaluated)
    world.controllers["untrained_m"] = Controller(5, 7, 2)
    world.memories["untrained_m"] = MDRNN(5, 2, 7, 2)
    first = score_all(world, tmp_path / "report.json", episodes=1)
    variant = "V + untrained M"
    everyone = ["random policy", variant, BEST, f"{BEST}, z sampled", BEST]
    assert played == everyone
    played.clear()
    changed = {
        "driver": world.controller.fc.bias,
        "variant": world.controllers["untrained_m"].fc.bias,
        "memory": world.memories["untrained_m"].rnn.bias_ih_l0,
    }
    with torch.no_grad():
        changed[change].add_(1)
    rows = score_all(world, tmp_path / "report.json", episodes=1)
    assert played == ([*everyone[2:]] if change == "driver" else [variant])
    assert [row["agent"] for row in rows] == everyone
    fresh = [row["origin"] not in {old["origin"] for old in first} for row in rows]
    assert [name for name, new in zip(everyone, fresh, strict=True) if new] == played
