"""The widgets without a browser: what is exported, what Python reads and sets."""

import base64
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import traitlets
from safetensors import safe_open
from safetensors.torch import load
from torch.distributions import Categorical, MixtureSameFamily, Normal

from wmlib.checkpoints import save_checkpoint
from wmlib.controller import Controller
from wmlib.mdrnn import MDRNN
from wmlib.rollouts import Rollout, save_rollout
from wmlib.show import export, pages, widgets
from wmlib.vae import ConvVAE, ConvVAEDecoder
from wmlib.world import WorldModel, load_pretrained, load_trained, save_pretrained

WORLDS = list(pages.PREFIXES.items())  # shipped weights, and what their files' names begin with
NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
EVERY = [
    widgets.LatentExplorer,
    widgets.DreamPlayer,
    widgets.DoomDreamPlayer,
    widgets.RealVsDream,
    widgets.MixturePlayground,
    widgets.CMAExplorer,
]


def metadata(name: str, folder: Path | None = None) -> dict[str, str]:
    path = (folder or pages.STATIC / "model") / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.fixture
def toy(tmp_path: Path) -> tuple[WorldModel, list[Rollout]]:
    """An untrained world model on disk, and two episodes of noise."""
    torch.manual_seed(0)
    world = WorldModel(ConvVAE(), MDRNN(32, 3, 16, 2), Controller(32, 16, 3))
    world.folder = tmp_path / "toy"
    save_pretrained(world.folder, world)
    rng = np.random.default_rng(0)
    episodes = []
    for steps in (70, 80):
        frames = rng.integers(0, 256, (steps, 64, 64, 3), dtype=np.uint8)
        zeros = np.zeros(steps, np.float32)
        episodes.append(Rollout(frames, rng.normal(size=(steps, 3)).astype("f4"), zeros, zeros))
    return world, episodes


# ------------------------------------------------------------------------------ the export


def test_folding_two_linear_layers_into_one_changes_no_frame() -> None:
    torch.manual_seed(1)
    decoder, z = ConvVAEDecoder(), 2 * torch.randn(8, 32)
    torch.testing.assert_close(export.decode_packed(export.fold_decoder(decoder), z), decoder(z))


@pytest.mark.parametrize(("name", "prefix"), WORLDS)
def test_the_shipped_export_draws_what_pytorch_draws(name: str, prefix: str) -> None:
    world, packed = load_pretrained(name), load(pages.asset(f"{prefix}v"))
    real = load(pages.asset(f"{prefix}real"))["z"]
    z = torch.cat([real, 2 * torch.randn(64, real.shape[1])])
    assert export.decode_error(world.vae, packed, z) < 2
    recorded = json.loads(metadata(f"{prefix}v")["notes"])["error"]
    assert recorded < 2
    # The comparison can fail: each frame against the one after it.
    ours = export.decode_packed(packed, z)
    assert 255 * (ours[1:] - world.vae.decoder(z[:-1])).abs().max() > 2


@pytest.mark.parametrize(("name", "prefix"), WORLDS)
def test_the_shipped_export_dreams_what_pytorch_dreams(name: str, prefix: str) -> None:
    world, real = load_pretrained(name), load(pages.asset(f"{prefix}real"))
    packed = load(pages.asset(f"{prefix}m"))
    limit = 0.05 if "w_hh_scale" in packed else 1e-3  # bytes, or halves
    assert export.dynamics_error(world, packed, real["z"], real["actions"]) < limit
    packed = export.in_floats(packed)
    packed["w_hh"] = packed["w_hh"] * (1 + 10 * limit)
    assert export.dynamics_error(world, packed, real["z"], real["actions"]) > limit


def test_bytes_are_whole_steps_of_their_row() -> None:
    torch.manual_seed(0)
    packed = {"w": torch.randn(5, 40) * torch.logspace(-3, 1, 5)[:, None], "b": torch.randn(5)}
    light = export.in_bytes(packed, ["w"])
    assert light["w"].dtype == torch.int8
    read = export.in_floats(light)
    assert set(read) == set(packed)
    step = packed["w"].abs().amax(1, keepdim=True) / 127
    assert ((read["w"] - packed["w"]).abs() <= 0.5001 * step).all()
    assert (read["w"] != packed["w"]).any()
    torch.testing.assert_close(read["b"], packed["b"])


@pytest.mark.parametrize("part", ["v", "m", "real"])
@pytest.mark.parametrize(("name", "prefix"), WORLDS)
def test_the_export_is_of_the_weights_that_ship(name: str, prefix: str, part: str) -> None:
    hashes = export.checkpoint_hashes(load_pretrained(name).folder)
    assert hashes
    assert json.loads(metadata(prefix + part)["source"]) == hashes


@pytest.mark.parametrize(("name", "prefix"), WORLDS)
def test_a_page_carries_few_megabytes(name: str, prefix: str) -> None:
    total = sum(len(pages.asset(prefix + part)) for part in ("v", "m", "real"))
    print(f"{name}: {total / 1e6:.1f} MB")
    assert total < 6e6


def test_real_frames_come_back_as_they_were(toy) -> None:
    world, episodes = toy
    real = export.pack_real(world, episodes, export.Recording(starts=4))
    sheet = cv2.imdecode(real["sheet"].numpy(), cv2.IMREAD_COLOR)[..., ::-1]
    frames = (
        sheet.reshape(-1, 64, export.SHEET_COLUMNS, 64, 3).swapaxes(1, 2).reshape(-1, 64, 64, 3)
    )
    np.testing.assert_array_equal(frames[4 : 4 + 70], episodes[0].observations)
    np.testing.assert_array_equal(frames[1], episodes[0].observations[69])
    assert real["start_z"].shape == (4, 32)
    assert real["start_h"].shape == real["start_c"].shape == (4, 16)


def test_a_start_knows_what_led_to_it(toy) -> None:
    world, episodes = toy
    real = export.pack_real(world, episodes, export.Recording(starts=4))
    h, c = world.cell.get_init_hidden(1)
    with torch.no_grad():
        for t in range(60):  # the first start is frame 60
            z, _ = world.vae.encoder(export.frames_to_tensor(episodes[0].observations[t : t + 1]))
            h, c = world.cell.step(torch.from_numpy(episodes[0].actions[t : t + 1]), z, (h, c))
    torch.testing.assert_close(real["start_h"][0], h[0])
    torch.testing.assert_close(real["start_c"][0], c[0])


# ------------------------------------------------------------------------ models of one's own


@pytest.fixture
def logdir(toy, tmp_path: Path) -> Path:
    """A folder as a training leaves it, and the episodes that it learned from."""
    world, episodes = toy
    for i, episode in enumerate(episodes):
        save_rollout(tmp_path / "data" / f"rollout_{i:06}.npz", episode)
    known = {"env_name": "CarRacing-v3", "data_dir": str(tmp_path / "data")}
    for stage, model in (("vae", world.vae), ("mdrnn", world.mdrnn), ("ctrl", world.controller)):
        checkpoint = {"state_dict": model.state_dict(), "config": known}
        save_checkpoint(tmp_path / "mine" / stage / "best.tar", checkpoint)
    return tmp_path / "mine"


def test_ones_own_training_is_exported_beside_it(logdir: Path, capsys) -> None:
    before = {file.name: file.read_bytes() for file in pages.SHIPPED.iterdir()}
    export.main(["--logdir", str(logdir)])
    assert {file.name: file.read_bytes() for file in pages.SHIPPED.iterdir()} == before
    assert f"{logdir / 'page' / 'v'}.safetensors: " in capsys.readouterr().out
    hashes = json.loads(metadata("v", logdir / "page")["source"])
    assert hashes == export.checkpoint_hashes(logdir)
    assert set(hashes) == {"vae/best.tar", "mdrnn/best.tar", "ctrl/best.tar"}
    world = load_trained(logdir)
    widget = widgets.LatentExplorer(folder=logdir / "page")
    longest = max(world.rollouts(), key=len)  # it comes first, and becomes the film
    with torch.no_grad():
        z, _ = world.vae.encoder(export.frames_to_tensor(longest.observations[60:61]))
    assert widget.z == pytest.approx(z[0].tolist(), abs=1e-5)
    assert widget.z != pytest.approx(widgets.LatentExplorer().z, abs=1e-2)
    (carried,) = {base64.b64decode(widget.get_state("_own")["_own"]["v"])}
    assert carried == (logdir / "page" / "v.safetensors").read_bytes()
    assert widgets.LatentExplorer().get_state("_own") == {"_own": {}}


def test_an_export_of_ones_own_goes_where_it_is_sent(logdir: Path, tmp_path: Path) -> None:
    export.main(["--logdir", str(logdir), "--out", str(tmp_path / "elsewhere")])
    assert len(widgets.RealVsDream(folder=tmp_path / "elsewhere").get_state("_own")["_own"]) == 3
    assert not (logdir / "page").exists()
    with pytest.raises(SystemExit):
        export.main(["--out", str(tmp_path / "elsewhere")])


def test_what_cannot_be_shown_is_said(toy, tmp_path: Path) -> None:
    world, episodes = toy
    with pytest.raises(FileNotFoundError, match=r"nothing/real\.safetensors.*--logdir"):
        widgets.LatentExplorer(folder=tmp_path / "nothing")
    one = episodes[0]
    arrays = (one.observations, one.actions, one.rewards, one.terminals)
    short = [Rollout(*(array[:60] for array in arrays))]
    with pytest.raises(ValueError, match="the longest of 1 episodes has 60 steps"):
        export.export(world, short, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_game_without_a_wheel_is_watched_and_not_steered(toy, tmp_path: Path) -> None:
    world, episodes = toy
    lander = WorldModel(world.vae, MDRNN(32, 2, 16, 2), Controller(32, 16, 2), {}, world.folder)
    for episode in episodes:
        episode.actions = episode.actions[:, :2]
    export.export(lander, episodes, tmp_path)
    with pytest.raises(ValueError, match=r"an action in .* has 2: look at these models with"):
        widgets.DreamPlayer(folder=tmp_path)
    assert len(widgets.LatentExplorer(folder=tmp_path).z) == 32
    assert widgets.RealVsDream(folder=tmp_path, begin=65).begin == 65
    with pytest.raises(traitlets.TraitError, match="the episode has 70 steps"):
        widgets.RealVsDream(folder=tmp_path, begin=70)


# -------------------------------------------------------------------------- pages and kernels


def test_the_kernel_answers_with_the_files_bytes() -> None:
    reply, buffers = widgets.LatentExplorer()._asset("v", [])
    assert base64.b64decode(reply["base64"]) == pages.asset("v")
    assert buffers == []


def test_the_kernel_says_what_is_missing() -> None:
    reply, _ = widgets.LatentExplorer()._asset("w", [])
    assert reply["error"].startswith("no asset is called 'w'; there are v, m, real")


def test_a_built_book_gets_the_files_as_scripts(tmp_path: Path) -> None:
    pages.embed(tmp_path)
    for name in pages.ASSETS:
        script = (tmp_path / f"{name}.js").read_text()
        assert base64.b64decode(re.search(r'= "([^"]+)"', script)[1]) == pages.asset(name)


@pytest.mark.parametrize("cls", EVERY)
def test_a_module_stands_alone(cls: type[pages.PageWidget]) -> None:
    assert not re.search(r"^\s*import\b", cls._esm, re.MULTILINE)
    assert cls._esm.count("export default") == 1
    addresses = set(re.findall(r"\w+://[^\s\"'`)]+", cls._esm + cls._css))
    assert addresses <= {"http://www.w3.org/2000/svg", "file://"}  # a name, and a comment
    assert len(cls._esm) < 60_000


@pytest.mark.parametrize("cls", EVERY)
def test_a_widget_is_the_same_text_in_every_run(cls: type[pages.PageWidget]) -> None:
    assert repr(cls()) == repr(cls())
    assert "0x" not in repr(cls())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_the_current_scripts(path: Path) -> None:
    """A built page runs the script that the notebook was saved with."""
    notebook = json.loads(path.read_text())
    states = notebook["metadata"].get("widgets", {}).values()
    models = [model["state"] for group in states for model in group["state"].values()]
    ours = {f"{cls.__module__}.{cls.__name__}": cls for cls in EVERY}
    for state in models:
        cls = ours.get(state.get("_anywidget_id"))
        if cls:
            assert state["_esm"] == cls._esm, "run the notebook again: its widgets are older"
            assert state["_css"] == cls._css, "run the notebook again: its widgets are older"


# ----------------------------------------------------------------------------------- traits


def test_z_takes_an_array_and_gives_a_list() -> None:
    w = widgets.LatentExplorer()
    w.z = np.linspace(-1, 1, 32, dtype=np.float32)
    assert w.z == pytest.approx(np.linspace(-1, 1, 32))
    w.z = torch.zeros(32)
    assert w.z == [0.0] * 32
    assert w.get_state("z") == {"z": [0.0] * 32}
    w.set_state({"z": [1.0] * 32})  # as the page does
    assert w.z == [1.0] * 32


@pytest.mark.parametrize("wrong", [[0.0] * 31, np.zeros((2, 32)), [float("nan")] * 32])
def test_z_refuses_what_is_no_latent(wrong: object) -> None:
    with pytest.raises(traitlets.TraitError, match="z "):
        widgets.LatentExplorer(z=wrong)


def test_a_start_sets_z() -> None:
    w = widgets.LatentExplorer()
    w.start = 2
    assert w.z == load(pages.asset("real"))["start_z"][2].tolist()
    with pytest.raises(traitlets.TraitError, match="start frames"):
        w.start = 99


def test_names_and_settings_go_round() -> None:
    w = widgets.LatentExplorer(names={"7": "curve"}, start=1)
    assert w.names == {"7": "curve"}
    player = widgets.DreamPlayer(tau=0.3, start=4, controller_drives=True)
    assert (player.tau, player.start, player.controller_drives) == (0.3, 4, True)
    with pytest.raises(traitlets.TraitError):
        player.tau = 0
    walker = widgets.DoomDreamPlayer(start=4)
    assert walker.z == load(pages.asset("takecover-real"))["start_z"][4].tolist()
    assert len(walker.z) == 64
    film = widgets.RealVsDream(begin=30)
    assert film.begin == 30
    with pytest.raises(traitlets.TraitError, match="steps"):
        film.t = 10_000


def test_nll_is_the_mixtures_own() -> None:
    w = widgets.MixturePlayground(mus=[-2, 2], sigmas=[0.5, 0.7], weights=[3, 2])
    parts = Normal(torch.tensor([-2.0, 2.0]), torch.tensor([0.5, 0.7]))
    mixture = MixtureSameFamily(Categorical(torch.tensor([0.6, 0.4])), parts)
    assert w.nll == pytest.approx(-mixture.log_prob(torch.tensor(w.data)).mean().item(), abs=1e-5)


def test_latent_sliders_redraw_with_the_kernels_decoder() -> None:
    torch.manual_seed(0)
    vae = ConvVAE()
    box = widgets.latent_sliders(vae, z=np.full(32, 0.5))
    picture, grid = box.children
    before = picture.value
    grid.children[7].value = -2.0
    z = torch.full((1, 32), 0.5)
    z[0, 7] = -2.0
    shown = cv2.imdecode(np.frombuffer(picture.value, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    with torch.no_grad():
        wanted = (255 * vae.decoder(z))[0].permute(1, 2, 0).round().numpy()
    assert np.abs(shown - wanted).max() <= 1
    assert picture.value != before


def test_a_widget_can_stand_alone() -> None:
    """As a classic script: no import, no export, and its traits' values within."""
    script = pages.standalone(*widgets.PLAYER, state={"tau": 0.5})
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)
    assert '"tau": 0.5' in script
