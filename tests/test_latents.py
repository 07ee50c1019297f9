"""Every frame encoded once: the right frames, in the right places, and again when V changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import wmlib.latents
from wmlib.checkpoints import save_checkpoint
from wmlib.collect import generate_rollouts
from wmlib.config import WMMDNRNNConfig, WMVAEConfig
from wmlib.datasets import ObservationDataset
from wmlib.latents import encode, latent_sets, load_vae, precompute_latents
from wmlib.pixels import frames_to_tensor
from wmlib.rollouts import Rollout, read_rollout, rollout_files, save_rollout
from wmlib.vae import ConvVAE

CPU = torch.device("cpu")


class Levels(nn.Module):
    """A reader's own V: mu is what a counting frame tells, sigma a weight that can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.logsigma = nn.Parameter(torch.tensor(-1.0))

    def encoder(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu = (x[:, :, 0, 0].float() * 255).round()
        return mu, self.logsigma.expand_as(mu)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four counting episodes that may be written beside."""
    folder = tmp_path / "data"
    generate_rollouts(folder, "counting_env:Counting-v0", 4, 50, num_workers=1, display=False)
    return folder


@pytest.fixture
def episodes(folder: Path) -> list[Rollout]:
    return [read_rollout(path) for path in rollout_files(folder)]


def compute(folder: Path, vae: nn.Module, latent_size: int = 3) -> dict[str, np.ndarray]:
    sizes = {"latent_size": latent_size, "device": "cpu"}
    config = WMMDNRNNConfig(data_dir=str(folder), **sizes)
    return precompute_latents(WMVAEConfig(64, 64, **sizes), config, vae, display=False)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each call of ``encode`` was given."""
    counts: list[int] = []

    def counting(vae: nn.Module, frames: np.ndarray, *args: object) -> tuple[Tensor, Tensor]:
        counts.append(len(frames))
        return encode(vae, frames, *args)

    monkeypatch.setattr(wmlib.latents, "encode", counting)
    return counts


# ------------------------------------------------------------------------------------- encoding


@pytest.mark.usefixtures("float32")
def test_encoding_in_chunks_is_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wmlib.latents, "CHUNK", 2)
    torch.manual_seed(0)
    vae = ConvVAE(latent_size=4).eval()
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    mu, logsigma = encode(vae, frames, CPU)
    assert (mu.shape, mu.dtype, mu.requires_grad) == ((5, 4), torch.float32, False)
    expected = vae.encoder(frames_to_tensor(frames))
    torch.testing.assert_close((mu, logsigma), expected, rtol=1e-4, atol=1e-5)


def test_encoding_in_half_precision_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vae = ConvVAE(latent_size=4).eval()
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    found = []
    for units in (True, False):
        monkeypatch.setattr("wmlib.devices.has_bf16", lambda device, units=units: units)
        found.append(encode(vae, frames, CPU)[0])
    near, exact = found
    assert not torch.equal(near, exact)
    assert near.dtype == torch.float32
    torch.testing.assert_close(near, exact, rtol=0, atol=0.05 * exact.abs().max().item())


# --------------------------------------------------------------------------------- the latents


def test_every_frame_is_where_it_was(folder: Path, episodes: list[Rollout]) -> None:
    arrays = compute(folder, Levels())
    lengths = [len(episode) for episode in episodes]
    assert arrays["episode_starts"].tolist() == np.cumsum([0, *lengths[:-1]]).tolist()
    for episode, start, final in zip(
        episodes, arrays["episode_starts"], arrays["final_latents"], strict=True
    ):
        rows = slice(start, start + len(episode))
        np.testing.assert_array_equal(arrays["latents"][rows], episode.observations[:, 0, 0])
        np.testing.assert_array_equal(final, episode.final_observation[0, 0])
        for key in ("actions", "rewards", "terminals"):
            np.testing.assert_array_equal(arrays[key][rows], getattr(episode, key))
    assert {len(arrays[key]) for key in ("latents", "logsigmas", "actions", "rewards")} == {
        sum(lengths)
    }


def test_mu_is_stored_with_logsigma_and_no_sample_fault_16(folder: Path) -> None:
    """Fault 16: one stored *sample* of z instead of mu and sigma."""
    arrays = compute(folder, Levels())
    np.testing.assert_array_equal(arrays["latents"], arrays["latents"].round())
    assert (arrays["logsigmas"] == -1).all()
    assert (arrays["final_logsigmas"] == -1).all()


def test_the_file_has_the_pages_keys(folder: Path) -> None:
    arrays = compute(folder, Levels())
    with np.load(folder / "latents" / "latents_3.npz", allow_pickle=False) as archive:
        assert {"latents", "actions", "rewards", "terminals"} < set(archive.files)
        for key, value in arrays.items():
            np.testing.assert_array_equal(archive[key], value)


def test_the_file_is_no_rollout_fault_9(folder: Path, episodes: list[Rollout]) -> None:
    """Fault 9: it lies inside the rollouts' folder, and was swept up as one."""
    compute(folder, Levels())
    assert len(rollout_files(folder)) == len(episodes)
    again = compute(folder, Levels())
    assert len(again["episode_starts"]) == len(episodes)


def test_without_a_final_frame_the_last_action_is_left_out(tmp_path: Path) -> None:
    """Nobody knows where it led. TorchWM's own files are such."""
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    frames = np.broadcast_to(frames, (5, 64, 64, 3))
    steps = np.arange(5, dtype=np.float32)
    for name in "ab":
        save_rollout(tmp_path / f"{name}.npz", Rollout(frames, steps[:, None], steps, steps == 4))
    arrays = compute(tmp_path, Levels())
    assert arrays["latents"][:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert arrays["final_latents"][:, 0].tolist() == [4, 4]
    assert arrays["episode_starts"].tolist() == [0, 4]
    assert arrays["actions"][:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


# ------------------------------------------------------------------------------ computed once


def test_a_second_call_encodes_nothing(
    folder: Path, episodes: list[Rollout], encodings: list[int]
) -> None:
    first = compute(folder, Levels())
    assert encodings == [len(episode) + 1 for episode in episodes]  # each frame once
    second = compute(folder, Levels())
    assert len(encodings) == len(episodes)
    assert first.keys() == second.keys()
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def test_another_v_encodes_again(folder: Path, encodings: list[int]) -> None:
    compute(folder, Levels())
    trained = Levels()
    trained.logsigma.data -= 1
    assert (compute(folder, trained)["logsigmas"] == -2).all()
    assert len(encodings) == 8


def test_more_rollouts_encode_again(folder: Path) -> None:
    before = len(compute(folder, Levels())["episode_starts"])
    generate_rollouts(folder, "counting_env:Counting-v0", 6, 50, num_workers=1, display=False)
    assert len(compute(folder, Levels())["episode_starts"]) == before + 2


def test_an_error_leaves_the_old_latents(folder: Path) -> None:
    compute(folder, Levels())
    path = folder / "latents" / "latents_3.npz"
    before = path.read_bytes()
    broken = folder / "rollout_000002.npz"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"rollout_000002\.npz is not a readable rollout"):
        compute(folder, Levels())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"half", b"PK\x03\x04half"])
def test_a_damaged_file_is_named(folder: Path, content: bytes) -> None:
    path = folder / "latents" / "latents_3.npz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"latents_3\.npz cannot be read .*delete it"):
        compute(folder, Levels())


def test_another_makers_latents_are_computed_anew(folder: Path, episodes: list[Rollout]) -> None:
    (folder / "latents").mkdir()
    np.savez(folder / "latents" / "latents_3.npz", latents=np.zeros((7, 3)))
    assert len(compute(folder, Levels())["latents"]) == sum(map(len, episodes))


def test_a_v_of_another_size_is_named_with_both(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"latents of size 3, WMMDNRNNConfig\.latent_size is 32"):
        compute(folder, Levels(), latent_size=32)


# ---------------------------------------------------------------------------------- V from disk


@pytest.mark.usefixtures("float32")
def test_v_is_the_best_of_its_folder(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = ConvVAE(latent_size=4)
    save_checkpoint(tmp_path / "vae" / "best.tar", {"state_dict": vae.state_dict()})
    config = WMVAEConfig(64, 64, latent_size=4, logdir=str(tmp_path))
    torch.testing.assert_close(load_vae(config).state_dict(), vae.state_dict(), rtol=0, atol=0)
    mdrnn = WMMDNRNNConfig(latent_size=4, data_dir=str(folder), device="cpu")
    arrays = precompute_latents(config, mdrnn, display=False)
    frame = read_rollout(rollout_files(folder)[0]).observations[:1]
    expected = vae.eval().encoder(frames_to_tensor(frame))[0].detach()
    torch.testing.assert_close(torch.from_numpy(arrays["latents"][:1]), expected)


def test_a_v_on_disk_of_another_size_is_named_with_both(tmp_path: Path) -> None:
    state = ConvVAE(latent_size=4).state_dict()
    save_checkpoint(tmp_path / "vae" / "best.tar", {"state_dict": state})
    with pytest.raises(ValueError, match=r"best\.tar has latent_size 4, the configuration says 32"):
        load_vae(WMVAEConfig(64, 64, logdir=str(tmp_path)))


def test_a_v_that_was_not_trained_says_which_stage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"best\.tar does not exist.*stage 'vae'"):
        load_vae(WMVAEConfig(64, 64, logdir=str(tmp_path)))


# ------------------------------------------------------------------------------------ the split


def test_windows_are_held_out_by_file_fault_11(folder: Path, episodes: list[Rollout]) -> None:
    """Fault 11: held-out *windows*: "600 files" was counted as 600 × 32 frames."""
    train, test = latent_sets(compute(folder, Levels()), seq_len=5, num_test_files=1)
    assert len(train) == sum(len(episode) - 4 for episode in episodes[:3])
    assert len(test) == len(episodes[3]) - 4
    assert test.mu[test.starts, 1].unique().tolist() == [episodes[3].seed % 251]
    assert set(train.mu[train.starts, 1].tolist()) == {e.seed % 251 for e in episodes[:3]}


def test_nothing_may_be_held_out(folder: Path, episodes: list[Rollout]) -> None:
    train, test = latent_sets(compute(folder, Levels()), seq_len=5, num_test_files=0)
    assert test is None
    assert len(train) == sum(len(episode) - 4 for episode in episodes)


def test_frames_and_latents_are_split_alike(folder: Path) -> None:
    """V and M hold the same episodes out."""
    arrays = compute(folder, Levels())
    frames = ObservationDataset(folder, train=False, num_test_files=2)
    _, test = latent_sets(arrays, seq_len=5, num_test_files=2)
    seeds = {read_rollout(path).seed % 251 for path in frames.files}
    assert set(test.mu[test.starts, 1].tolist()) == seeds
