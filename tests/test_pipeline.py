"""A whole training in small: each stage leaves what the next one needs, and none is done twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from wmlib.presets import VARIANTS

import wmlib.pipeline
from wmlib import (
    Agent,
    LocalEvaluator,
    generate_rollouts,
    imitate,
    load_pretrained,
    load_trained,
    rollout_files,
    save_pretrained,
)
from wmlib import test_trained_model as trained_model_test  # pytest would take it for a test
from wmlib.pipeline import Run
from wmlib.pretrained import load_agent

COUNTING = "counting_env:Counting-v0"
VAE = {"num_epochs": 1, "epoch_size": 8, "num_test_files": 1, "train_batch_size": 8}
RNN = {"num_epochs": 1, "epoch_size": 8, "num_test_files": 1, "seq_len": 4, "gmm_components": 2}
CTRL = {"pop_size": 2, "n_samples": 1, "num_generations": 1, "eval_episodes": 1, "max_workers": 1}


def never(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("done again")


def make(folder: Path, **changes: Any) -> Run:
    settings: dict[str, Any] = {
        "rollouts": [{"num_rollouts": 4, "seq_len": 20, "policy": "random"}],
        "vae": VAE | {"latent_size": 5},
        "rnn": RNN | {"hidden_size": 7},
        "ctrl": CTRL | {"display": False},
    }
    return Run(COUNTING, str(folder / "data"), str(folder / "log"), **(settings | changes))


def train(run: Run) -> None:
    run.collect()
    run.train_vae()
    run.train_rnn()
    run.train_ctrl()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Do not write."""
    folder = tmp_path_factory.mktemp("run")
    train(make(folder))
    return folder


def test_each_stage_leaves_what_the_next_one_needs(done: Path) -> None:
    files = sorted(path.name for path in (done / "data").glob("*"))
    assert files == ["latents", *(f"rollout_{i:06d}.npz" for i in range(4))]
    for stage in ("vae", "mdrnn", "ctrl"):
        for name in ("best.tar", "checkpoint.tar"):
            assert (done / "log" / stage / name).exists()
    world = load_trained(done / "log")
    assert (world.vae.latent_size, world.mdrnn.hiddens, world.mdrnn.gaussians) == (5, 7, 2)
    assert world.controller.fc.in_features == 5 + 7
    assert world.controller.fc.out_features == world.mdrnn.actions == 2  # the environment's


def test_v_draws_a_grid_and_m_a_film(done: Path) -> None:
    grid = iio.imread(done / "log" / "vae" / "samples" / "epoch_001.png")
    assert grid.shape == (2 * 64, 4 * 64, 3)  # four rollouts, each above its reconstruction
    files = sorted((done / "data").glob("*.npz"))
    reds = {int(red) for file in files for red in np.load(file)["observations"][:, 0, 0, 0]}
    assert {int(grid[0, 64 * i, 0]) for i in range(4)} <= reds  # the frames are real ones
    film = iio.imread(done / "log" / "mdrnn" / "samples" / "dream_001.gif")
    assert film.shape[1:] == (64, 4 * 64, 3)
    assert len(film) > 1


def test_finished_stages_are_not_run_again(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wmlib.pipeline, "train_convae", never)
    monkeypatch.setattr(wmlib.pipeline, "train_mdn_rnn", never)
    kept = [path for path in done.rglob("*") if path.suffix in (".npz", ".tar", ".json")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    train(make(done))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for changes in ({"vae": VAE | {"num_epochs": 2}}, {"vae": VAE | {"noreload": True}}):
        with pytest.raises(AssertionError, match="done again"):
            make(done, **changes).train_vae()


def test_latents_need_not_be_precomputed(done: Path, tmp_path: Path) -> None:
    run = make(tmp_path, precompute=False)
    run.collect()
    run.train_vae()
    run.train_rnn()
    assert not (tmp_path / "data" / "latents").exists()
    assert (tmp_path / "log" / "mdrnn" / "best.tar").exists()


def test_a_second_round_learns_from_the_drives_of_the_first(done: Path, tmp_path: Path) -> None:
    calls = [{"num_rollouts": 6, "seq_len": 5, "policy": "drive"}]
    run = make(tmp_path, rollouts=calls)
    run.driver = load_trained(done / "log", env_name=COUNTING).agent()
    run.data_dir = str(tmp_path / "data")
    run.collect()
    drives = [np.load(tmp_path / "data" / f"rollout_{i:06d}.npz") for i in range(6)]
    assert all(len(drive["actions"]) == 5 for drive in drives)
    # Around what the driver, all but untrained, does; a random player fills the whole box.
    assert np.std(np.concatenate([drive["actions"] for drive in drives])[:, 1]) < 0.6


def test_c_can_be_trained_in_the_dream(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    dreaming = {"evaluator": "dream", "name": "dreamer", "time_limit": 9, "n_samples": 3}
    make(tmp_path, ctrl=CTRL | {"display": False} | dreaming).train_ctrl()
    (row,) = json.loads((tmp_path / "log" / "dreamer" / "search.json").read_text())["rows"]
    assert 6 <= row["env_steps"] <= 2 * 3 * 9  # dreamt ones
    assert row["mean"] != int(row["mean"])  # the real world pays whole numbers
    awake = make(
        tmp_path, ctrl=CTRL | dreaming, rnn=RNN | {"hidden_size": 7, "include_reward": False}
    )
    with pytest.raises(ValueError, match=r"include_reward is off: such an M has no reward"):
        awake.train_ctrl()


def test_on_a_cluster_it_is_the_same_run(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With this machine in the cluster's place; a real one is in ``test_cluster``."""

    def nearby(agent: Agent, env_name: str, workers: int, **options: Any) -> LocalEvaluator:
        assert workers == 3
        return LocalEvaluator(agent, env_name, **options)

    def collected(*args: Any, workers: int, **options: Any) -> list[Path]:
        assert workers == 3
        return generate_rollouts(*args, **options)

    monkeypatch.setattr(wmlib.pipeline, "RayEvaluator", nearby)
    monkeypatch.setattr(wmlib.pipeline, "collect_on_cluster", collected)
    train(make(tmp_path, ctrl=CTRL | {"display": False, "evaluator": "ray", "ray_workers": 3}))
    for name in ("data/rollout_000003.npz", "log/ctrl/generations.csv"):
        here, there = (folder / name for folder in (done, tmp_path))
        found, wanted = there.read_bytes(), here.read_bytes()
        if name.endswith("csv"):  # its second column is seconds
            found, wanted = (
                [line.split(b",")[2:] for line in text.splitlines()] for text in (found, wanted)
            )
        assert found == wanted


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A finished run, to be written to."""
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy"


def test_c_begins_where_the_round_before_ended(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = load_trained(copy / "log", env_name=COUNTING).agent()
    run = make(copy, driver=driver, ctrl=CTRL | {"display": False, "start": "driver", "name": "b"})
    run.train_ctrl()
    files = rollout_files(copy / "data")
    wanted = imitate(load_agent(run.ctrl_config), driver, files, display=False)
    settings = json.loads((copy / "log" / "b" / "search.json").read_text())["settings"]
    np.testing.assert_allclose(settings["start"], wanted)
    monkeypatch.setattr(wmlib.pipeline, "imitate", never)
    run.train_ctrl()  # who goes on need not imitate again


def test_without_a_round_before_there_is_nobody_to_imitate(copy: Path) -> None:
    run = make(copy, ctrl=CTRL | {"start": "driver", "name": "b"})
    with pytest.raises(ValueError, match="start is 'driver', and there was no round before"):
        run.train_ctrl()


def test_every_variant_of_the_agent_is_trained_shipped_and_scored(
    copy: Path, tmp_path: Path
) -> None:
    run = make(copy, ablation={"num_generations": 2, "eval_interval": 2})
    run.train_ablation()
    world = load_trained(copy / "log", env_name=COUNTING)
    assert set(world.controllers) == {"shipped", *VARIANTS}
    assert world.controllers["v_only"].fc.in_features == 5  # z alone
    for name in VARIANTS:
        (row, last) = (copy / "log" / "ablation" / name / "generations.csv").open().readlines()[1:]
        assert (row[0], last[0]) == ("1", "2")
    # M drawn at random goes with its C, and is what that C drives with, shipped or not.
    save_pretrained(tmp_path / "shipped", world)
    shipped = load_pretrained(tmp_path / "shipped")
    shipped.info = world.info
    for there in (world, shipped):
        cells = {name: there.agent(name).cell for name in VARIANTS}
        assert torch.equal(cells["v_m"].rnn.weight_ih, world.cell.rnn.weight_ih)
        assert not torch.equal(cells["untrained_m"].rnn.weight_ih, world.cell.rnn.weight_ih)
    assert torch.equal(
        shipped.memories["untrained_m"].rnn.weight_ih_l0,
        world.memories["untrained_m"].rnn.weight_ih_l0,
    )
    # The seeds differ, and so do the searches; the variants with one seed share their tracks.
    weights = [world.controllers[name].fc.weight for name in ("v_m", "v_m_2", "v_m_3")]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    report = tmp_path / "report.json"
    options = {"env_name": COUNTING, "episodes": 2, "report": str(report), "max_workers": 1}
    rows = trained_model_test(str(copy / "log"), **options)["rows"]
    titles = [title for title, _ in VARIANTS.values()]
    best = "V + M, the shipped agent"
    named = ["random policy", *titles, best, f"{best}, z sampled", best]
    assert [row["agent"] for row in rows] == named
    assert all(row["episodes"] == 2 for row in rows)


def test_a_wrong_environment_fails_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'Nowhere-v0' cannot be made"):
        Run("Nowhere-v0", str(tmp_path / "data"), str(tmp_path / "log"), [])
    assert not list(tmp_path.iterdir())


def test_the_report_has_chance_and_the_agent_on_the_same_episodes(
    done: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    options = {"episodes": 2, "seed": 4, "report": str(path), "max_workers": 1}
    report = trained_model_test(str(done / "log"), COUNTING, **options)
    assert json.loads(path.read_text()) == report
    assert [row["agent"] for row in report["rows"]] == ["random", "agent"]
    returns = [row["returns"] for row in report["rows"]]
    assert returns[0] == returns[1]  # the counting world pays by the step, whatever one does
