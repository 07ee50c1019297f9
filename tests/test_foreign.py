"""Other people's checkpoints give their weights, and nothing else of them comes to life."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wmlib import MDRNN, Controller, ConvVAE, adopt_checkpoints, load_trained, read_weights
from wmlib.checkpoints import load_checkpoint

L, A, H, K = 5, 2, 7, 3


@pytest.fixture
def m() -> MDRNN:
    torch.manual_seed(0)
    return MDRNN(L, A, H, K)


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(found[key], value), key


class Trap:
    """Leaves a file behind when it is unpickled in the usual way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False], ids=["today's form", "the form of 2018"])
def test_objects_beside_the_weights_are_passed_over(m: MDRNN, tmp_path: Path, zipped: bool) -> None:
    optimizer = torch.optim.Adam(m.parameters())
    m(torch.zeros(2, 1, A), torch.zeros(2, 1, L))[0].sum().backward()
    optimizer.step()
    payload = {
        "epoch": 3,
        "precision": np.float64(0.5),
        "optimizer": optimizer.state_dict(),
        "scheduler": {"optimizer": optimizer, "best": np.float32(1)},
        "state_dict": m.state_dict(),
    }
    path = tmp_path / "mdrnn" / "best.tar"
    path.parent.mkdir()
    torch.save(payload, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="plain tensors"):
        load_checkpoint(path)
    assert_equal(read_weights(path), m.state_dict())


def test_code_in_a_file_is_not_run(m: MDRNN, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"state_dict": m.state_dict(), "trap": Trap(sprung)}, tmp_path / "a.tar")
    assert_equal(read_weights(tmp_path / "a.tar"), m.state_dict())
    assert not sprung.exists()
    torch.load(tmp_path / "a.tar", weights_only=False)["trap"].close()
    assert sprung.exists()  # the trap is a real one


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_orig_mod.module."])
def test_names_are_plain(m: MDRNN, tmp_path: Path, prefix: str) -> None:
    wrapped = OrderedDict((prefix + key, value) for key, value in m.state_dict().items())
    torch.save(wrapped, tmp_path / "bare.pt")  # a state dict without anything around it
    assert_equal(read_weights(tmp_path / "bare.pt"), m.state_dict())


def test_a_folder_becomes_a_logdir_of_ours(m: MDRNN, tmp_path: Path) -> None:
    vae, controller = ConvVAE(3, L), Controller(L, H, A)
    for model in (vae, m):
        model.half().float()  # load_trained rounds V and M as they ship
    theirs = {key.replace("decoder.fc.", "decoder.fc1."): v for key, v in vae.state_dict().items()}
    states = {"vae/best": theirs, "mdrnn/checkpoint": m.state_dict()}
    states["ctrl/best"] = controller.state_dict()
    for name, state in states.items():
        path = tmp_path / "theirs" / f"{name}.tar"
        path.parent.mkdir(parents=True)
        torch.save({"state_dict": state, "reward": np.float64(870)}, path)
    assert list(adopt_checkpoints(tmp_path / "theirs", tmp_path / "ours")) == [
        "vae", "mdrnn", "ctrl",
    ]  # fmt: skip
    world = load_trained(tmp_path / "ours")
    for found, wanted in ((world.vae, vae), (world.mdrnn, m), (world.controller, controller)):
        assert_equal(found.state_dict(), wanted.state_dict())


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with pytest.raises(FileNotFoundError, match=r"a\.tar does not exist"):
        read_weights(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"a\.tar cannot be read"):
        read_weights(path)
    for payload in ({"state_dict": {}}, {"epoch": 3}, [1, 2], {"state_dict": 3}):
        torch.save(payload, path)
        with pytest.raises(ValueError, match=r"a\.tar holds no state dict"):
            read_weights(path)
    with pytest.raises(FileNotFoundError, match=r"holds none of .*vae/best\.tar"):
        adopt_checkpoints(tmp_path, tmp_path / "ours")
