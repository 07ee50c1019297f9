"""Weights go out and come back; sizes come from the file, and a file that does not fit is named."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wmlib import (
    MDRNN,
    Controller,
    ConvVAE,
    Rollout,
    WMControllerConfig,
    WorldModel,
    load_pretrained,
    load_trained,
    save_rollout,
)
from wmlib.checkpoints import save_checkpoint
from wmlib.envs import make_env
from wmlib.world import SHIPPED, WEIGHTS, load_agent, save_pretrained

L, A, H, K = 5, 2, 7, 3  # nobody's defaults
ENV = "counting_env:Counting-v0"


@pytest.fixture
def world() -> WorldModel:
    torch.manual_seed(0)
    info = {"env_name": ENV, "env_kwargs": {"size": 96}, "steps": 12}
    return WorldModel(ConvVAE(3, L), MDRNN(L, A, H, K), Controller(L, H, A), info)


@pytest.fixture
def logdir(tmp_path: Path, world: WorldModel) -> Path:
    """A finished run, as training leaves it."""
    stages = {"vae": world.vae, "mdrnn": world.mdrnn, "ctrl": world.controller}
    for stage, model in stages.items():
        save_checkpoint(tmp_path / stage / "best.tar", {"state_dict": model.state_dict()})
    return tmp_path


def assert_rounded(after: nn.Module, before: nn.Module) -> None:
    for key, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[key], value.half().float()), key


def test_what_is_saved_comes_back(world: WorldModel, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "mine", world)
    again = load_pretrained(tmp_path / "mine")
    assert_rounded(again.vae, world.vae)
    assert_rounded(again.mdrnn, world.mdrnn)
    assert again.info == world.info
    assert again.env_name == ENV
    assert again.env_kwargs == {"size": 96}
    for key, value in world.controller.state_dict().items():  # exactly as evolved
        assert torch.equal(again.controller.state_dict()[key], value)
    save_pretrained(tmp_path / "again", again)
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "mine" / WEIGHTS).read_bytes()


def test_weights_are_half_as_large_on_disk(world: WorldModel, tmp_path: Path) -> None:
    save_pretrained(tmp_path, world)
    models = (world.vae, world.mdrnn)
    count = sum(p.numel() for model in models for p in model.parameters())
    assert 2 * count < (tmp_path / WEIGHTS).stat().st_size < 2 * count + 10_000


def test_sizes_come_from_the_file(world: WorldModel, tmp_path: Path) -> None:
    save_pretrained(tmp_path, world)
    again = load_pretrained(tmp_path)
    cell = again.cell
    assert again.vae.latent_size == L
    assert (cell.latents, cell.actions, cell.hiddens, cell.gaussians) == (L, A, H, K)
    assert again.controller.fc.in_features == L + H


@pytest.mark.parametrize(("hidden_size", "sees"), [(0, 0), (H, 1), (2 * H, 2)])
def test_it_drives_with_a_controller_of_any_kind(
    world: WorldModel, tmp_path: Path, hidden_size: int, sees: int
) -> None:
    world.controller = Controller(L, hidden_size, A)
    save_pretrained(tmp_path, world)
    make_env(world.env_name)  # and so its module is loaded: it is trusted
    agent = load_pretrained(tmp_path).agent(sample_z=True)
    assert (agent.sees, agent.sample_z) == (sees, True)


def test_a_module_that_only_a_file_names_is_not_run(world: WorldModel, tmp_path: Path) -> None:
    world.info["env_name"] = "no_such_module:Counting-v0"
    save_pretrained(tmp_path, world)
    with pytest.raises(
        ValueError, match=r"names the environment 'no_such_module:.*`import no_such"
    ):
        load_pretrained(tmp_path).agent()


def test_the_shipped_agent_is_what_is_loaded_by_default() -> None:
    world = load_pretrained()
    assert world.folder.name == SHIPPED
    assert world.env_name == "CarRacing-v3"
    assert world.agent().action_map.is_car


def test_sample_episodes_lie_beside_the_weights(
    world: WorldModel, tmp_path: Path, counted: Path
) -> None:
    save_pretrained(tmp_path, world)
    assert load_pretrained(tmp_path).folder == tmp_path
    (tmp_path / "rollouts").mkdir()
    for file in sorted(counted.glob("*.npz"))[:2]:
        (tmp_path / "rollouts" / file.name).symlink_to(file)
    episodes = load_pretrained(tmp_path).rollouts()
    assert len(episodes) == 2
    assert all(isinstance(episode, Rollout) for episode in episodes)
    save_rollout(tmp_path / "rollouts" / "more.npz", episodes[0])
    assert len(load_pretrained(tmp_path).rollouts()) == 3


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no pretrained weights called 'nobody'; there are"):
        load_pretrained("nobody")


@pytest.mark.parametrize("damage", ["cut", "noise", "foreign"])
def test_a_file_that_cannot_be_trusted_is_named(
    world: WorldModel, tmp_path: Path, damage: str
) -> None:
    save_pretrained(tmp_path, world)
    path = tmp_path / WEIGHTS
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "noise":
        path.write_bytes(b"<html>not found</html>" * 100)
    else:
        save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match=str(path)):
        load_pretrained(tmp_path)


def test_a_run_can_be_loaded_by_its_folder(logdir: Path, world: WorldModel) -> None:
    trained = load_trained(logdir, env_name=ENV)
    for model in ("vae", "mdrnn", "controller"):
        before, after = getattr(world, model).state_dict(), getattr(trained, model).state_dict()
        for key, value in before.items():  # V and M as they would ship, C as it was evolved
            wanted = value if model == "controller" else value.half().float()
            assert torch.equal(after[key], wanted)
    assert trained.env_name == ENV


def test_a_run_remembers_its_environment(logdir: Path, world: WorldModel) -> None:
    config = WMControllerConfig(L, H, A, ENV, env_kwargs={"size": 96})
    saved = {"state_dict": world.controller.state_dict(), "config": config.to_dict()}
    save_checkpoint(logdir / "ctrl" / "best.tar", saved)
    trained = load_trained(logdir)
    assert (trained.env_name, trained.env_kwargs) == (ENV, {"size": 96})
    told = load_trained(logdir, env_kwargs={"size": 80}, steps=12)  # who says it knows better
    assert (told.env_name, told.env_kwargs) == (ENV, {"size": 80})
    assert told.info["steps"] == 12


@pytest.mark.parametrize(("folder", "stage"), [("vae", "vae"), ("mdrnn", "rnn"), ("ctrl", "ctrl")])
def test_a_stage_that_was_not_run_is_named(logdir: Path, folder: str, stage: str) -> None:
    (logdir / folder / "best.tar").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder}.best\.tar.*stage '{stage}'"):
        load_trained(logdir)


def test_files_of_different_runs_do_not_fit(logdir: Path) -> None:
    other = {"state_dict": MDRNN(L + 1, A, H, K).state_dict()}
    save_checkpoint(logdir / "mdrnn" / "best.tar", other)
    with pytest.raises(ValueError, match=r"mdrnn.best\.tar.*latent_size of 5"):
        load_trained(logdir)
    save_checkpoint(logdir / "mdrnn" / "best.tar", {"state_dict": nn.Linear(2, 2).state_dict()})
    with pytest.raises(ValueError, match=r"mdrnn.best\.tar holds no MDRNN"):
        load_trained(logdir)
    save_checkpoint(logdir / "vae" / "best.tar", other)
    with pytest.raises(ValueError, match=r"vae.best\.tar holds no ConvVAE"):
        load_trained(logdir)


def test_a_driver_to_be_evolved_starts_at_zero_on_weights_as_they_ship(
    logdir: Path, world: WorldModel
) -> None:
    config = WMControllerConfig(L, H, A, ENV, str(logdir))
    agent = load_agent(config)
    assert_rounded(agent.vae, world.vae)
    assert_rounded(agent.cell, world.cell)
    assert not any(p.any() for p in agent.controller.parameters())
    assert load_agent(config).sees == 1
    for hidden_size, sees in ((0, 0), (2 * H, 2)):
        assert load_agent(WMControllerConfig(L, hidden_size, A, ENV, str(logdir))).sees == sees


def test_a_driver_for_another_memory_is_refused(logdir: Path) -> None:
    with pytest.raises(ValueError, match=r"C's inputs and \[z, h\] differ: 13 and 12"):
        load_agent(WMControllerConfig(L, H + 1, A, ENV, str(logdir)))
