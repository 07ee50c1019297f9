"""What V loses: kerbs and hairpins are found where they are, and their errors are their own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from carracing import rooms

from wmlib import ConvVAE, load_pretrained
from wmlib.diagnosis import diagnose_vae
from wmlib.rollouts import Rollout, save_rollout

(sight,) = rooms("sight")
GRASS, ROAD = (102, 229, 102), (104, 105, 104)


def picture() -> np.ndarray:
    """Grass, a road, the car, a dashboard, and five pixels of kerb."""
    frame = np.full((64, 64, 3), GRASS, np.uint8)
    frame[:, 25:38] = ROAD
    frame[45:51, 31:33] = (180, 0, 0)
    frame[56:] = 0
    frame[58:62, 2:40] = (255, 255, 255)
    frame[58:62, 45:50] = (255, 0, 0)
    frame[20, 24:27] = (255, 0, 0)
    frame[21, 24:26] = (250, 250, 248)
    return frame


def test_kerbs_are_neither_the_car_nor_the_dashboard() -> None:
    found = sight.kerbs(np.stack([picture(), np.full((64, 64, 3), GRASS, np.uint8)]))
    assert np.argwhere(found).tolist() == [
        [0, 20, 24], [0, 20, 25], [0, 20, 26], [0, 21, 24], [0, 21, 25]
    ]  # fmt: skip


def test_there_are_kerbs_in_the_game_along_bends_alone() -> None:
    for episode in load_pretrained().rollouts("agent"):
        pixels = sight.kerbs(episode.observations).sum((1, 2))
        assert 0 < pixels.mean() < 30
        assert (pixels == 0).mean() > 0.1


def test_a_hairpin_is_where_the_wheel_is_held() -> None:
    actions = np.zeros((200, 3), np.float32)
    actions[50:90, 0] = -0.6
    actions[150:154, 0] = 1.0  # a short swerve is none
    assert np.flatnonzero(sight.hairpins(actions)).tolist() == list(range(50, 90))
    assert sight.hairpins(np.ones((9, 3), np.float32)).tolist() == [False] * 9


@pytest.mark.usefixtures("float32")
def test_each_game_and_each_place_has_its_own_error(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae, rng, frames = ConvVAE().eval(), np.random.default_rng(0), {}
    for number, game in enumerate(("envpool", "gymnasium")):
        actions = np.zeros((40, 3), np.float32)
        actions[:, 0] = number
        shade = rng.integers(0, 20, (40, 1, 1, 3), dtype=np.uint8)
        frames[game] = picture()[None] // (1 + number) + shade // 20
        zeros = np.zeros(40, np.float32)
        rollout = Rollout(frames[game], actions, zeros, zeros, env_id=f"CarRacing-v3 ({game})")
        save_rollout(tmp_path / f"rollout_{number}.npz", rollout)
    seen = sight.look(vae, sorted(tmp_path.glob("*.npz")))
    for game, found in seen.items():
        wanted = diagnose_vae(vae, frames[game])
        assert found["error"] == pytest.approx(wanted["error"], rel=1e-4)
        assert found["error_95"] == pytest.approx(wanted["error_95"], rel=1e-3)
    kerb = seen["envpool"]
    assert (kerb["frames"], kerb["kerb_pixels"], kerb["hairpin_frames"]) == (40, 200, 0)
    with torch.no_grad():
        x = torch.from_numpy(frames["envpool"][:1]).permute(0, 3, 1, 2) / 255
        missed = (vae.decoder(vae.encoder(x)[0]) - x).square().sum(1)[0]
    wanted = float(torch.cat([missed[20, 24:27], missed[21, 24:26]]).mean())
    assert kerb["kerbs"] == pytest.approx(wanted, rel=0.02)
    dim = seen["gymnasium"]
    assert dim["hairpin_frames"] > 0
    assert dim["hairpins"] == pytest.approx(dim["error"], rel=0.05)
