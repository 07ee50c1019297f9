"""Nothing half-written, nothing lost, nothing trusted."""

import json
import multiprocessing
import os
import pickle
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from wmlib.checkpoints import (
    atomic_path,
    check_room,
    check_settings,
    fingerprint,
    load_checkpoint,
    load_weights,
    read_json,
    reading,
    save_checkpoint,
    versions,
    write_json,
)

PAYLOAD = {
    "epoch": 3,
    "loss": -0.5,
    "state_dict": {"weight": torch.arange(6.0).reshape(2, 3)},
    "history": [{"loss": 1.0}, {"loss": -0.5}],
    "note": "σ",
    "best": None,
}


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "vae" / "best.tar", PAYLOAD)
    loaded = load_checkpoint(tmp_path / "vae" / "best.tar")
    assert loaded.pop("versions") == versions()
    torch.testing.assert_close(loaded.pop("state_dict"), PAYLOAD["state_dict"])
    assert loaded == {key: value for key, value in PAYLOAD.items() if key != "state_dict"}


def test_a_checkpoint_is_read_without_pickles(tmp_path: Path) -> None:
    """Adam's and RMSprop's states and a history are plain tensors and numbers."""
    model = nn.Linear(2, 1)
    for optimizer in (
        torch.optim.Adam(model.parameters()),
        torch.optim.RMSprop(model.parameters()),
    ):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        save_checkpoint(
            tmp_path / "c.tar", {"state_dict": model.state_dict(), "o": optimizer.state_dict()}
        )
        loaded = torch.load(tmp_path / "c.tar", weights_only=True)
        assert loaded.keys() == {"state_dict", "o", "versions", "checksum"}


def test_an_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # a rename is atomic within one folder
        assert temporary.suffix == path.suffix  # writers go by it
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_are_made_and_files_can_be_read_by_others(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a" / "b" / "c.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a" / "b" / "c.txt").stat().st_mode & 0o777 == 0o644


def test_a_killed_writer_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    """SIGKILL in the middle of the writing, for real."""
    path = tmp_path / "checkpoint.tar"
    save_checkpoint(path, PAYLOAD)
    context = multiprocessing.get_context("fork")
    began = context.Event()

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            began.set()
            time.sleep(60)

    process = context.Process(target=write, daemon=True)
    process.start()
    assert began.wait(30)
    process.kill()
    process.join()
    assert load_checkpoint(path)["epoch"] == 3
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.read_bytes() == b"half"
    assert left.name.startswith(".")  # no listing takes it for a checkpoint or a rollout


def test_a_missing_checkpoint_names_its_stage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mdrnn.best\.tar does not exist.*stage 'rnn'"):
        load_checkpoint(tmp_path / "mdrnn" / "best.tar")


def test_a_checkpoint_cut_anywhere_is_named(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "whole.tar", PAYLOAD)
    whole, path = (tmp_path / "whole.tar").read_bytes(), tmp_path / "cut.tar"
    for kept in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=r"cut\.tar cannot be read.*delete or replace"):
            load_checkpoint(path)


FOREIGN = {
    "text": b"hello\n",
    "json": b'{"state_dict": 1}',
    "zeros": bytes(2000),
    "noise": torch.Generator().manual_seed(0).get_state().numpy().tobytes(),
    "pickle": pickle.dumps({"state_dict": {}}),
    "cut pickle": pickle.dumps({"state_dict": list(range(300))})[:50],
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "best.tar"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(ValueError, match=r"best\.tar"):
        load_checkpoint(path)


def test_a_folder_in_the_place_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "best.tar").mkdir()
    with pytest.raises(ValueError, match=r"best\.tar"):
        load_checkpoint(tmp_path / "best.tar")


class Touch:
    """What a malicious checkpoint holds: code that runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "x": Touch(tmp_path / "made")}, tmp_path / "best.tar")
    with pytest.raises(ValueError, match=r"best\.tar cannot be read as a checkpoint of plain"):
        load_checkpoint(tmp_path / "best.tar")
    assert not (tmp_path / "made").exists()
    torch.load(tmp_path / "best.tar", weights_only=False)  # the bait works
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize("payload", [{"model": {}}, torch.ones(2), [1, 2]])
def test_a_checkpoint_without_weights_says_what_it_found(tmp_path: Path, payload: object) -> None:
    torch.save(payload, tmp_path / "best.tar")
    with pytest.raises(ValueError, match=r"best\.tar holds no 'state_dict', found"):
        load_checkpoint(tmp_path / "best.tar")


def test_weights_are_loaded() -> None:
    one, two = nn.Linear(2, 3), nn.Linear(2, 3)
    load_weights(two, one.state_dict(), "here")
    torch.testing.assert_close(two.weight, one.weight)


def test_weights_of_another_size_name_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"best\.tar: weight is \(3, 5\).*wants \(3, 2\)"):
        load_weights(nn.Linear(2, 3), nn.Linear(5, 3).state_dict(), "best.tar")


def test_weights_of_another_model_name_the_first_difference() -> None:
    linear, bare = nn.Linear(2, 3), nn.Linear(2, 3, bias=False)
    with pytest.raises(ValueError, match=r"bias is missing from best\.tar"):
        load_weights(linear, bare.state_dict(), "best.tar")
    with pytest.raises(ValueError, match=r"bias is unknown to the model.*best\.tar"):
        load_weights(bare, linear.state_dict(), "best.tar")


def test_a_refused_state_changes_nothing() -> None:
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    with pytest.raises(ValueError, match="weight"):
        load_weights(model, {"weight": torch.ones(4, 4), "bias": torch.ones(3)}, "here")
    torch.testing.assert_close(model.weight, before)


def test_json_goes_round(tmp_path: Path) -> None:
    value = {"returns": [906.5, -1.0], "env": "CarRacing-v3", "σ": None}
    write_json(tmp_path / "report.json", value)
    assert read_json(tmp_path / "report.json") == value
    written = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert written.pop("checksum")
    assert written == value


@pytest.mark.parametrize("content", [b'{"returns": [1,', b"\xff\xfe\x00", b""])
def test_json_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"report\.json is not JSON"):
        read_json(tmp_path / "report.json")


def test_json_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"report\.json"):
        read_json(tmp_path / "report.json")


def test_json_without_what_is_wanted_is_named(tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    write_json(path, {"rows": []})
    assert read_json(path, "rows") == {"rows": []}
    with pytest.raises(ValueError, match=r"search\.json holds no \['fitness'\]"):
        read_json(path, "rows", "fitness")
    write_json(path, [1, 2])
    with pytest.raises(ValueError, match=r"search\.json holds no \['rows'\]"):
        read_json(path, "rows")


def test_a_setting_that_differs_is_named_with_both_values() -> None:
    check_settings("here", {"seed": 1, "beta": 1.0}, {"seed": 1})
    check_settings("here", {}, {"later": 3})  # older records know nothing of it
    with pytest.raises(ValueError, match=r"here was recorded with beta = 1\.0, now 2\.0; give the"):
        check_settings("here", {"seed": 1, "beta": 1.0}, {"seed": 1, "beta": 2.0})


def test_a_fingerprint_is_of_the_weights_and_of_what_else_is_told() -> None:
    torch.manual_seed(0)
    one, two = nn.Linear(2, 3), nn.Linear(2, 3)
    first, other = one.state_dict(), fingerprint(one.state_dict(), two.state_dict())
    two.load_state_dict(first)
    assert fingerprint(first) == fingerprint(two.state_dict())
    prints = {other, fingerprint(first, first), fingerprint(first), fingerprint(first, 1)}
    assert len(prints) == 4


def test_a_disk_without_room_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2_500_000))
    deep = tmp_path / "not" / "yet"
    said = f"{deep} needs 3.0 MB, and its disk has 2.5 MB left: make room there"
    with pytest.raises(OSError, match=f"^{re.escape(said)}"):
        check_room(deep, 3_000_000)
    check_room(deep, 3_000_000, surely=False)
    assert capsys.readouterr().out.startswith(said.replace("needs", "may need"))
    check_room(deep, 2_500_000)
    assert not deep.exists()


def test_what_an_error_says_of_another_file_is_kept(tmp_path: Path) -> None:
    """A missing file says so itself; a missing folder on the way is put under the file's name."""
    with (
        pytest.raises(ValueError, match=r"^mine cannot be read \(FileNotFoundError: .*other"),
        reading("mine"),
    ):
        (tmp_path / "other").read_text()
    with pytest.raises(FileNotFoundError), reading(tmp_path / "mine"):
        (tmp_path / "mine").read_text()
