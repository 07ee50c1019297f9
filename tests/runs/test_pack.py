"""Packing a run: what is loaded by name is what was chosen, with episodes to look at."""

from pathlib import Path

import numpy as np
import pytest
import torch
from carracing import rooms

from wmlib import MDRNN, Controller, ConvVAE, load_pretrained
from wmlib.checkpoints import read_json, write_json
from wmlib.envs import episode_seed
from wmlib.world import WorldModel

(packing,) = rooms("pack")
pack, FRESH, RECORDS = packing.pack, packing.FRESH, packing.RECORDS


def row(agent: str, **more: object) -> dict[str, object]:
    known = {"agent": agent, "backend": "gymnasium", "episodes": 4, "seed": 9}
    return known | {"hardware": "a lathe", "mean": 12.4, "std": 3.0, "ci95": 2.9} | more


@pytest.fixture(scope="module")
def world() -> WorldModel:
    """Untrained models."""
    torch.manual_seed(0)
    parts = ConvVAE(), MDRNN(32, 3, 16, 2), Controller(32, 16, 3)
    return WorldModel(*parts, {"env_name": "CarRacing-v3"})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The records of a finished run."""
    logdir = tmp_path / "run"
    for record in ("ctrl/choice.json", "ctrl/steering.json"):
        write_json(logdir / record, {"returns": {record: [1.0]}})
    for stage in ("vae", "mdrnn"):
        write_json(logdir / stage / "history.json", {"epochs": [{"seconds": 90.0}] * 4})
    for number, search in enumerate(packing.SEARCHES, 1):
        path = logdir / search / "generations.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"generation,seconds,env_steps,mean\n1,30,500,{number}\n2,60,1000,2.5\n")
    write_json(logdir / "report.json", {"rows": [row("one command, seed 7")]})
    write_json(logdir / "sight.json", {"gymnasium": {"error": 13.0}})
    times = {
        "round1": {"seconds": 600.0, "core_seconds": 1140.0},
        "choice": {"seconds": 60.0, "core_seconds": 120.0},
        "ablation": {"seconds": 6e5, "core_seconds": 6e5},
    }
    write_json(logdir / "times.json", times)
    return logdir


def test_what_is_packed_is_the_run(run: Path, world: WorldModel, tmp_path: Path) -> None:
    folder = tmp_path / "shipped"
    pack(run, folder, world, 7, episodes=2, seq_len=5)
    loaded = load_pretrained(folder)
    assert torch.equal(loaded.controller.fc.weight, world.controller.fc.weight)
    assert (loaded.mdrnn.hiddens, loaded.env_name) == (16, "CarRacing-v3")
    for name in RECORDS:
        assert (folder / name).read_bytes() == (run / name).read_bytes()
    assert read_json(folder / "searches.json") == list(packing.SEARCHES)
    card = (folder / "README.md").read_text()
    for part in (
        'load_pretrained("shipped")',
        "Made by `make driver SEED=7`",
        "V, a variational autoencoder | 4,348,547 parameters, 4 epochs in 6 minutes",
        "C, a linear map | 147 parameters, 6 generations",
        "| 3,000 in 3 minutes |",
        "| 11 minutes, 21 of one core, on a lathe |",
        "| one command, seed 7 | gymnasium | 4, seed 9 | 12 ± 3 | 3 |",
    ):
        assert part in card
    # Episodes are the agent's as shipped, on tracks that it never collected on.
    driven, (random,) = loaded.rollouts("agent"), loaded.rollouts("random")
    assert [r.seed for r in driven] == [episode_seed("collect", FRESH, i) for i in range(2)]
    assert random.seed == driven[0].seed
    assert np.array_equal(random.observations[0], driven[0].observations[0])
    assert [len(r) for r in loaded.rollouts()] == [5, 5, 5]
    agent = loaded.agent()
    agent.start([driven[0].seed])
    actions = [agent(frame) for frame in driven[0].observations]
    assert np.allclose(actions, driven[0].actions, atol=0.02)  # in another batch, in bf16
    # Packed again, nothing of the last time is left.
    pack(run, folder, world, 7, episodes=1, seq_len=2)
    assert [len(r) for r in load_pretrained(folder).rollouts()] == [2, 2]


def test_a_report_brings_all_together(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_json(other / "report.json", {"rows": [row("random"), row("one command, seed 8")]})
    ablation = {"rows": [row("V only, z", seeds=10)], "contrasts": [{"p_holm": 0.5}]}
    write_json(run / "ablation" / "report.json", ablation)
    found = packing.report(run, [other])
    names = ["one command, seed 7", "one command, seed 8", "V only, z"]
    assert [row["agent"] for row in found["rows"]] == names
    assert found["contrasts"] == [{"p_holm": 0.5}]
    assert found["sight"] == {"gymnasium": {"error": 13.0}}
    assert found["minutes"] == {"round1": 10.0, "choice": 1.0, "ablation": 1e4}
    assert found["core_minutes"] == {"round1": 19.0, "choice": 2.0, "ablation": 1e4}


@pytest.mark.parametrize("missing", [*RECORDS, "report.json", "sight.json", "times.json"])
def test_an_unfinished_run_is_not_packed(
    run: Path, world: WorldModel, tmp_path: Path, missing: str
) -> None:
    (run / missing).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{missing} does not exist: let the run finish"):
        pack(run, tmp_path / "shipped", world, 7)
    assert not (tmp_path / "shipped").exists()


def test_a_run_is_not_packed_over_itself(run: Path, world: WorldModel) -> None:
    for folder in (run, run.parent):
        with pytest.raises(ValueError, match="holds the run"):
            pack(run, folder, world, 7)
    assert (run / "report.json").exists()
