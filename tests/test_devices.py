"""Which device, and which arithmetic."""

import importlib
import sys

import pytest
import torch
from torch import nn

from wmlib.devices import (
    _is_built_for_bf16,
    autocast,
    choose_device,
    compiled,
    faster,
    hardware,
    has_bf16,
    quicken,
)

CPU = torch.device("cpu")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    choose_device.cache_clear()
    yield
    choose_device.cache_clear()


@pytest.fixture
def with_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmlib.devices._is_built_for_bf16", lambda device: True)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["cuda", "cuda:3"])
def test_without_a_gpu_cuda_is_the_cpu_and_says_so_fault_21(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 21: ``index % torch.cuda.device_count()`` divides by zero on a machine without one."""
    assert choose_device(name) == CPU
    assert choose_device(name) == CPU
    assert (
        capsys.readouterr().out == f"device '{name}': torch sees no GPU here, so the CPU is used\n"
    )


def test_the_cpu_is_the_cpu_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_device("cpu") == CPU
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["quantum", "cuda:x"])
def test_an_unknown_device_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"device '{name}' is unknown; use cuda, cuda:N or cpu"):
        choose_device(name)


@pytest.mark.usefixtures("float32", "with_units")
def test_bf16_switched_off_computes_in_float32() -> None:
    a = torch.randn(8, 8)
    assert not has_bf16(CPU)
    with autocast(CPU):
        assert (a @ a).dtype == torch.float32


@pytest.mark.parametrize("units", [True, False])
def test_products_are_bf16_where_the_units_are(
    monkeypatch: pytest.MonkeyPatch, units: bool
) -> None:
    monkeypatch.setattr("wmlib.devices._is_built_for_bf16", lambda device: units)
    a = torch.randn(8, 8)
    with autocast(CPU):
        assert (a @ a).dtype == (torch.bfloat16 if units else torch.float32)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True}, False),
        ({}, False),
    ],
)
def test_bf16_is_told_by_the_cpus_own_flags(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    assert _is_built_for_bf16.__wrapped__(CPU) is expected


def test_a_torch_that_cannot_tell_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert _is_built_for_bf16.__wrapped__(CPU) is False


def test_nothing_is_compiled_on_the_cpu() -> None:
    model = nn.Linear(2, 2)
    assert compiled(model, CPU) is model


def test_torchs_own_switch_leaves_compiling_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """``TORCH_COMPILE_DISABLE=1`` is read when torch is imported, into this setting."""
    monkeypatch.setattr(importlib.import_module("torch._dynamo.config"), "disable", True)
    counters = importlib.import_module("torch._dynamo.utils").counters
    counters.clear()
    model, x = nn.Linear(2, 2), torch.ones(1, 2)
    assert torch.equal(compiled(model, torch.device("cuda"))(x), model(x))
    assert not counters["frames"]  # none was looked at


def test_the_model_handed_in_keeps_plain_names_fault_7() -> None:
    """Fault 7: torch.compile puts ``_orig_mod.`` before every key of a saved state dict."""
    model = nn.Linear(2, 2)
    fast = compiled(model, torch.device("cuda"))  # compiles at its first call only
    assert set(fast.state_dict()) == {"_orig_mod.weight", "_orig_mod.bias"}
    assert set(model.state_dict()) == {"weight", "bias"}
    model.weight.data.fill_(3)
    assert fast.state_dict()["_orig_mod.weight"].eq(3).all()  # one set of weights


@pytest.fixture(params=["no folder", "shut"])
def no_fast(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """``wmlib.fast`` blocked, as if the folder were not there; or shut by the environment."""
    if request.param == "shut":
        monkeypatch.setenv("WMLIB_FAST", "0")
        return
    for name in [n for n in sys.modules if n.partition(".fast")[0] == "wmlib" and ".fast" in n]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wmlib.fast", None)


@pytest.mark.fast
def test_the_door_to_what_is_faster() -> None:
    assert faster("models") is importlib.import_module("wmlib.fast.models")
    assert faster("no_such_room") is None


@pytest.mark.usefixtures("no_fast")
@pytest.mark.parametrize("room", ["models", "processes", "envpool", "car_racing", "memory"])
def test_the_door_to_nowhere_is_none(room: str) -> None:
    assert faster(room) is None


@pytest.mark.fast
def test_what_a_faster_room_itself_lacks_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "wmlib.fast.processes", raising=False)
    monkeypatch.setitem(sys.modules, "gymnasium.vector", None)
    with pytest.raises(ModuleNotFoundError, match=r"gymnasium\.vector"):
        faster("processes")


@pytest.mark.usefixtures("no_fast")
def test_without_the_fast_folder_a_model_stays_as_it_is() -> None:
    model = nn.ConvTranspose2d(2, 2, 4, stride=2)
    assert quicken(model) is model
    assert type(model) is nn.ConvTranspose2d


def test_hardware_is_one_line() -> None:
    assert hardware()
    assert "\n" not in hardware()
