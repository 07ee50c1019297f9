"""A whole training in small: each stage leaves what the next one needs, and none is done twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

import wmlib.pipeline
from wmlib import Agent, LocalEvaluator, generate_rollouts, load_trained
from wmlib import test_trained_model as trained_model_test  # pytest would take it for a test
from wmlib.pipeline import PRESETS, Run

COUNTING = "counting_env:Counting-v0"
VAE = {"num_epochs": 1, "epoch_size": 8, "train_batch_size": 8}
RNN = {"num_epochs": 1, "seq_len": 4, "gmm_components": 2}
CTRL = {"pop_size": 2, "n_samples": 1, "num_generations": 1, "max_workers": 1}


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
    for changes in ({"num_epochs": 2}, {"noreload": True}):
        with pytest.raises(AssertionError, match="done again"):
            make(done, vae=VAE | {"latent_size": 5} | changes).train_vae()
        with pytest.raises(AssertionError, match="done again"):
            make(done, rnn=RNN | {"hidden_size": 7} | changes).train_rnn()


def test_latents_need_not_be_precomputed(done: Path, tmp_path: Path) -> None:
    run = make(tmp_path, precompute=False)
    run.collect()
    run.train_vae()
    run.train_rnn()
    assert not (tmp_path / "data" / "latents").exists()
    assert (tmp_path / "log" / "mdrnn" / "best.tar").exists()


def test_c_can_be_trained_in_the_dream(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    dreaming = {"evaluator": "dream", "time_limit": 9, "n_samples": 3}
    shutil.rmtree(tmp_path / "log" / "ctrl")
    make(tmp_path, ctrl=CTRL | {"display": False} | dreaming).train_ctrl()
    (row,) = json.loads((tmp_path / "log" / "ctrl" / "search.json").read_text())["rows"]
    assert 6 <= row["env_steps"] <= 2 * 3 * 9  # dreamt ones
    assert row["mean"] != int(row["mean"])  # the real world pays whole numbers
    awake = make(
        tmp_path, ctrl=CTRL | dreaming, rnn=RNN | {"hidden_size": 7, "include_reward": False}
    )
    with pytest.raises(ValueError, match=r"include_reward is off: such an M has no reward"):
        awake.train_ctrl()


@pytest.mark.fast
def test_on_a_cluster_it_is_the_same_run(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With this machine in the cluster's place; a real one is in ``test_cluster``."""

    called = []

    def nearby(agent: Agent, env_name: str, **options: Any) -> LocalEvaluator:
        called.append("evaluator")
        return LocalEvaluator(agent, env_name, **options)

    def collected(*args: Any, **options: Any) -> list[Path]:
        called.append("collect")
        return generate_rollouts(*args, **options)

    monkeypatch.setattr("wmlib.fast.ray.RayEvaluator", nearby)
    monkeypatch.setattr("wmlib.fast.ray.collect_on_cluster", collected)
    train(make(tmp_path, ctrl=CTRL | {"display": False, "evaluator": "ray"}))
    assert called == ["collect", "evaluator"]
    for name in ("data/rollout_000003.npz", "log/ctrl/generations.csv"):
        here, there = (folder / name for folder in (done, tmp_path))
        found, wanted = there.read_bytes(), here.read_bytes()
        if name.endswith("csv"):  # its second column is seconds
            found, wanted = (
                [line.split(b",")[2:] for line in text.splitlines()] for text in (found, wanted)
            )
        assert found == wanted


def test_without_the_fast_folder_a_cluster_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wmlib.pipeline, "faster", lambda room: None)
    with pytest.raises(RuntimeError, match=r"a Ray cluster needs wmlib\.fast"):
        make(tmp_path, ctrl=CTRL | {"evaluator": "ray"}).collect()


def test_c_may_see_z_alone_or_all_that_m_keeps(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    for hidden_size in (0, 14):
        shutil.rmtree(tmp_path / "log" / "ctrl")
        make(tmp_path, ctrl=CTRL | {"display": False, "hidden_size": hidden_size}).train_ctrl()
        world = load_trained(tmp_path / "log")
        assert world.controller.fc.in_features == 5 + hidden_size


def test_the_environments_arguments_reach_every_stage_and_are_remembered(tmp_path: Path) -> None:
    run = make(tmp_path, env_kwargs={"length": 6})
    train(run)
    lengths = {len(np.load(file)["rewards"]) for file in (tmp_path / "data").glob("*.npz")}
    assert lengths == {6}
    rows = json.loads((tmp_path / "log" / "ctrl" / "search.json").read_text())["rows"]
    assert [row["mean"] for row in rows] == [15.0]
    world = load_trained(tmp_path / "log")
    assert (world.env_name, world.env_kwargs) == (COUNTING, {"length": 6})
    report = trained_model_test(str(tmp_path / "log"), episodes=2, max_workers=1)
    assert [row["env_id"] for row in report["rows"]] == [COUNTING, COUNTING]
    assert [row["returns"] for row in report["rows"]] == [[15.0, 15.0], [15.0, 15.0]]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_make_a_run(preset: str, tmp_path: Path) -> None:
    settings = {key: value for key, value in PRESETS[preset].items() if key != "episodes"}
    run = make(tmp_path, **settings)
    assert run.rollouts == PRESETS[preset]["rollouts"]
    assert run.vae_config.extra == run.rnn_config.extra == run.ctrl_config.extra == {}


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
    assert json.loads(path.read_text())["rows"] == report["rows"]
    assert [row["agent"] for row in report["rows"]] == ["random", "agent"]
    returns = [row["returns"] for row in report["rows"]]
    assert returns[0] == returns[1]  # the counting world pays by the step, whatever one does
