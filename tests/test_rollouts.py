"""An episode on disk: its keys, its bytes, its time, and other people's files."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from wmlib.rollouts import Rollout, read_rollout, rollout_files, rollout_length, save_rollout

T = 12


def episode(steps: int = T, size: int = 64) -> Rollout:
    """An episode of noise."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (steps + 1, size, size, 3), dtype=np.uint8)
    return Rollout(
        frames[:-1],
        rng.normal(size=(steps, 3)).astype(np.float32),
        rng.normal(size=steps).astype(np.float32),
        (np.arange(steps) == steps - 1).astype(np.float32),
        frames[-1],
        truncated=True,
        seed=7,
        env_id="CarRacing-v3",
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rollout_000000.npz"


def test_an_episode_comes_back_as_it_was(path: Path) -> None:
    saved = episode()
    save_rollout(path, saved)
    loaded = read_rollout(path)
    for name in ("observations", "actions", "rewards", "terminals", "final_observation"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    assert (loaded.truncated, loaded.seed, loaded.env_id) == (True, 7, "CarRacing-v3")
    assert len(loaded) == T


def test_the_pages_four_keys_and_shapes(path: Path) -> None:
    """Any reader with numpy alone gets them, without pickles."""
    save_rollout(path, episode())
    with np.load(path, allow_pickle=False) as archive:
        found = {key: (archive[key].shape, archive[key].dtype) for key in archive.files}
    assert found["observations"] == ((T, 64, 64, 3), np.uint8)
    assert found["actions"] == ((T, 3), np.float32)
    assert found["rewards"] == found["terminals"] == ((T,), np.float32)


def test_the_same_episode_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_rollout(tmp_path / f"{name}.npz", episode())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    save_rollout(tmp_path / "c.npz", episode(T + 1))
    assert (tmp_path / "c.npz").read_bytes() != (tmp_path / "b.npz").read_bytes()


def test_next_frames_are_the_frames_one_step_on() -> None:
    rollout = episode()
    np.testing.assert_array_equal(rollout.next_observations[:-1], rollout.observations[1:])
    np.testing.assert_array_equal(rollout.next_observations[-1], rollout.final_observation)
    rollout.final_observation = None
    np.testing.assert_array_equal(rollout.next_observations, rollout.observations[1:])


def test_length_without_reading_the_frames(path: Path) -> None:
    save_rollout(path, episode())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("observations.npy").header_offset
    broken = bytearray(path.read_bytes())
    broken[offset + 100 : offset + 2000] = bytes(1900)  # frames that nobody can decode
    path.write_bytes(broken)
    assert rollout_length(path) == T
    with pytest.raises(ValueError, match=path.name):
        read_rollout(path)


# ----------------------------------------------------------------------- other people's files


def test_torchwms_files_are_read_and_resized(path: Path) -> None:
    """Frames 96×96, obs[t] before action[t], no final frame."""
    theirs = episode(size=96)
    np.savez_compressed(
        path,
        observations=theirs.observations,
        actions=theirs.actions,
        rewards=theirs.rewards.astype(np.float64),
        terminals=theirs.terminals.astype(bool),
    )
    loaded = read_rollout(path)
    assert loaded.observations.shape == (T, 64, 64, 3)
    assert loaded.rewards.dtype == loaded.terminals.dtype == np.float32
    np.testing.assert_array_equal(loaded.actions, theirs.actions)
    assert loaded.final_observation is None
    assert len(loaded.next_observations) == T - 1
    assert rollout_length(path) == T


def test_a_final_frame_is_resized_with_the_others(path: Path) -> None:
    save_rollout(path, episode(size=96))
    assert read_rollout(path).next_observations.shape == (T, 64, 64, 3)


def test_flat_actions_get_a_dimension(path: Path) -> None:
    rollout = episode()
    rollout.actions = rollout.actions[:, 0]
    save_rollout(path, rollout)
    assert read_rollout(path).actions.shape == (T, 1)


@pytest.mark.parametrize("more", [0, 1, 30])
def test_ctallecs_files_are_put_in_time_fault_1(path: Path, more: int) -> None:
    """Fault 1: in files with obs[t] *after* action[t], pairing by index is off by one.

    A world that counts: action t makes frame t, is worth t, and the last one ends it. Actions
    that were drawn but not played follow.
    """
    frames = np.arange(T, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    np.savez(
        path,
        observations=np.broadcast_to(frames, (T, 64, 64, 3)),
        actions=np.arange(T + more, dtype=np.float32)[:, None],
        rewards=np.arange(T, dtype=np.float32),
        terminals=np.arange(T) == T - 1,
    )
    rollout = read_rollout(path, alignment="after")
    assert len(rollout) == T - 1
    for t in range(T - 1):  # frame t --action t + 1--> frame t + 1
        assert rollout.observations[t, 0, 0, 0] == t
        assert rollout.actions[t, 0] == rollout.rewards[t] == t + 1
        assert rollout.next_observations[t, 0, 0, 0] == t + 1
        assert rollout.terminals[t] == (t + 1 == T - 1)


def test_ctallecs_files_are_not_taken_for_ours(path: Path) -> None:
    rollout = episode()
    rollout.actions = np.concatenate([rollout.actions, rollout.actions[:1]])
    save_rollout(path, rollout)
    with pytest.raises(ValueError, match=f"{path.name}: {T} frames, {T + 1} actions.*'after'"):
        read_rollout(path)


def test_an_alignment_that_is_none_is_refused(path: Path) -> None:
    save_rollout(path, episode())
    with pytest.raises(ValueError, match="alignment must be 'before' or 'after', found 'later'"):
        read_rollout(path, alignment="later")


# --------------------------------------------------------------------------- files in disorder


def test_a_file_cut_anywhere_is_named(path: Path) -> None:
    save_rollout(path, episode(3))
    whole = path.read_bytes()
    for kept in range(0, len(whole), len(whole) // 25):
        path.write_bytes(whole[:kept])
        for read in (read_rollout, rollout_length):
            with pytest.raises(ValueError, match=rf"{path.name} is not a readable.*delete or repl"):
                read(path)


def test_damaged_bytes_are_named(path: Path) -> None:
    """Whatever a damaged file makes numpy, zipfile and zlib raise."""
    save_rollout(path, episode(2))
    whole, rng, errors = path.read_bytes(), np.random.default_rng(0), []
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(whole), 5)] ^= rng.integers(1, 256, 5, dtype=np.uint8)
        path.write_bytes(damaged.tobytes())
        try:
            read_rollout(path)
        except ValueError as error:
            errors.append(str(error))
    assert len(errors) > 30
    assert all(str(path) in error for error in errors)


def foreign(path: Path, **changes: np.ndarray | None) -> None:
    arrays = {
        "observations": np.zeros((T, 64, 64, 3), np.uint8),
        "actions": np.zeros((T, 3)),
        "rewards": np.zeros(T),
        "terminals": np.zeros(T),
        **changes,
    }
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, "KeyError: 'rewards"),
        ({"observations": np.zeros((T, 64, 64), np.uint8)}, r"found \(12, 64, 64\) uint8"),
        ({"observations": np.zeros((T, 64, 64, 3))}, r"found \(12, 64, 64, 3\) float64"),
        ({"observations": np.zeros((T, 3, 64, 64), np.uint8)}, r"found \(12, 3, 64, 64\) uint8"),
        ({"rewards": np.zeros(T - 1)}, "12 frames, 12 actions, 11 rewards"),
        ({"actions": np.zeros((T - 1, 3))}, "12 frames, 11 actions"),
        ({"terminals": np.zeros(())}, "0 terminals"),
        ({"rewards": np.array(["a"] * T)}, "ValueError"),
        ({"rewards": np.array([None] * T)}, "pickle"),
    ],
)
def test_a_foreign_file_is_named(path: Path, changes: dict, message: str) -> None:
    foreign(path, **changes)
    with pytest.raises(ValueError, match=rf"{path.name}.*{message}"):
        read_rollout(path)


@pytest.mark.parametrize("alignment", ["before", "after"])
def test_a_file_without_a_step_is_named(path: Path, alignment: str) -> None:
    frames = int(alignment == "after")  # one frame, and nothing before it
    save_rollout(path, episode(frames))
    with pytest.raises(ValueError, match=rf"{path.name}: {frames} frames"):
        read_rollout(path, alignment)


def test_a_bare_array_in_the_place_of_a_rollout_is_named(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    for read in (read_rollout, rollout_length):
        with pytest.raises(ValueError, match=path.name):
            read(path)


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=path.name):
        read_rollout(path)


# --------------------------------------------------------------------------------- the folder


def test_files_are_sorted_fault_19(tmp_path: Path) -> None:
    """Fault 19: in the order of the disk, the held-out files differ between machines."""
    names = ["b/rollout_2.npz", "rollout_10.npz", "a/z.npz", "rollout_01.npz"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = rollout_files(tmp_path)
    assert found == sorted(found)
    assert {str(path.relative_to(tmp_path)) for path in found} == set(names)


def test_cached_latents_are_no_rollout_fault_9(tmp_path: Path) -> None:
    """Fault 9: the latents' file lies inside the rollouts' folder and is swept up as one."""
    for name in ("latents/latents_32.npz", "rollout_0.npz", ".writing-x.npz", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in rollout_files(tmp_path)] == ["rollout_0.npz"]


def test_a_folder_may_itself_be_called_latents(tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "rollout_0.npz").touch()
    assert len(rollout_files(tmp_path / "latents")) == 1


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_folder_without_rollouts_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"no rollouts \(\.npz\) below .*{name}"):
        rollout_files(tmp_path / name)
