"""A report has a row for every agent, loses none to a crash, and keeps none of other weights."""

from pathlib import Path

import pytest
import torch

import wmlib.report
from wmlib import MDRNN, Controller, ConvVAE, WorldModel
from wmlib.report import score_all

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


@pytest.mark.parametrize("change", ["episodes", "seed", "weights", "memories"])
def test_rows_of_other_weights_or_tracks_are_not(
    world: WorldModel, played: list[str], tmp_path: Path, change: str
) -> None:
    options = {"episodes": 1, "seed": 0}
    with pytest.raises(KeyboardInterrupt):
        score_all(world, tmp_path / "report.json", **options)
    if change == "weights":
        with torch.no_grad():
            world.controller.fc.bias.add_(1)
    elif change == "memories":
        world.memories["untrained_m"] = MDRNN(5, 2, 7, 2)
    else:
        options[change] += 1
    before, played[:] = list(played), []
    with pytest.raises(KeyboardInterrupt):
        score_all(world, tmp_path / "report.json", **options)
    assert played == before
