"""The configurations: the reference page's tables, what is refused, and what travels."""

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig

# The tables of the reference page, as they stand, but for the design's two differences:
# CarRacing-v3 in place of v2, which is gone, and one hidden_size.
VAE = {
    "latent_size": 32, "device": "cuda", "train_batch_size": 32, "num_epochs": 10,
    "data_dir": "./data", "learning_rate": 1e-3, "logdir": "results", "noreload": False,
    "nosamples": False, "scheduler_patience": 5, "scheduler_factor": 0.5,
    "early_stopping_patience": 30, "sample_interval": 5, "extra": {},
}  # fmt: skip
MDRNN = {
    "latent_size": 32, "action_size": 3, "hidden_size": 256, "gmm_components": 5,
    "device": "cuda", "batch_size": 16, "seq_len": 32, "num_epochs": 30, "data_dir": "./data",
    "learning_rate": 1e-3, "logdir": "results", "noreload": False, "include_reward": True,
    "scheduler_patience": 5, "scheduler_factor": 0.5, "early_stopping_patience": 30, "extra": {},
}  # fmt: skip
CONTROLLER = {
    "latent_size": 32, "hidden_size": 256, "action_size": 3, "env_name": "CarRacing-v3",
    "logdir": "results", "n_samples": 4, "pop_size": 10, "target_return": 950.0,
    "max_workers": 32, "display": True, "time_limit": 1000, "extra": {},
}  # fmt: skip
REQUIRED = {WMVAEConfig: {"height": 64, "width": 64}, WMMDNRNNConfig: {}, WMControllerConfig: {}}
EVERY = pytest.mark.parametrize("cls", REQUIRED, ids=lambda cls: cls.__name__)


def make(cls: type, **values: Any) -> Any:
    return cls(**{**REQUIRED[cls], **values})


@pytest.mark.parametrize(
    ("cls", "table"),
    [(WMVAEConfig, VAE), (WMMDNRNNConfig, MDRNN), (WMControllerConfig, CONTROLLER)],
)
def test_every_default_of_the_page(cls: type, table: dict[str, Any]) -> None:
    config = make(cls)
    assert {name: getattr(config, name) for name in table} == table


def test_the_vae_takes_height_and_width_first() -> None:
    config = WMVAEConfig(64, 64)
    assert (config.height, config.width) == (64, 64)
    with pytest.raises(TypeError, match="height"):
        WMVAEConfig()


def test_m_and_c_need_no_argument() -> None:
    assert WMMDNRNNConfig().gmm_components == 5
    assert WMControllerConfig().pop_size == 10


def test_one_hidden_size_everywhere_fault_10() -> None:
    """Fault 10: 200 in one configuration, 256 in another, and hard-coded in the worker."""
    assert WMMDNRNNConfig().hidden_size == WMControllerConfig().hidden_size == 256


@EVERY
def test_fields_can_be_set(cls: type) -> None:
    config = make(cls, latent_size=16, seed=3)
    assert (config.latent_size, config.seed) == (16, 3)


@EVERY
def test_unknown_keys_go_to_extra_and_read_as_attributes(cls: type) -> None:
    config = make(cls, wandb_project="cars", extra={"note": "first try"})
    assert config.extra == {"wandb_project": "cars", "note": "first try"}
    assert config.wandb_project == "cars"
    assert config.note == "first try"


@pytest.mark.parametrize(
    ("cls", "slip", "meant"),
    [
        (WMVAEConfig, "learning_rat", "learning_rate"),
        (WMVAEConfig, "noreloads", "noreload"),
        (WMMDNRNNConfig, "hiden_size", "hidden_size"),
        (WMControllerConfig, "popsize", "pop_size"),
        (WMControllerConfig, "sigma", "sigma0"),
    ],
)
def test_a_keyword_like_a_misspelt_field_is_refused(cls: type, slip: str, meant: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{cls.__name__} has no field '{slip}'; did you mean '{meant}'\?"
    ):
        make(cls, **{slip: 1})
    assert getattr(make(cls, extra={slip: 1}), slip) == 1  # it can be meant, as the message says


@EVERY
def test_a_name_that_is_nowhere_is_an_attribute_error(cls: type) -> None:
    with pytest.raises(AttributeError, match=f"{cls.__name__} has no field or extra key 'nope'"):
        _ = make(cls).nope


@EVERY
def test_extra_is_not_shared_between_instances(cls: type) -> None:
    one, two = make(cls), make(cls)
    one.extra["a"] = 1
    assert two.extra == {}


@EVERY
def test_to_dict_and_from_dict_are_inverse(cls: type) -> None:
    config = make(cls, latent_size=8, colour="red")
    values = config.to_dict()
    assert values["latent_size"] == 8
    assert values["extra"] == {"colour": "red"}
    assert set(values) == {field.name for field in dataclasses.fields(cls)}
    assert cls.from_dict(values) == config


@EVERY
def test_from_dict_sends_unknown_keys_to_extra(cls: type) -> None:
    assert cls.from_dict({**REQUIRED[cls], "later_field": 7}).later_field == 7


@EVERY
def test_to_dict_is_a_copy(cls: type) -> None:
    config = make(cls, layers=[1, 2])
    config.to_dict()["extra"]["layers"].append(3)
    assert config.layers == [1, 2]


@EVERY
def test_configurations_survive_copy_and_pickle(cls: type) -> None:
    """Both look for attributes before ``extra`` exists."""
    config = make(cls, colour="red")
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)).colour == "red"


@EVERY
def test_the_signature_stays_readable(cls: type) -> None:
    assert "latent_size" in inspect.signature(cls).parameters


@EVERY
def test_every_field_describes_itself(cls: type) -> None:
    assert all(field.metadata["about"] for field in dataclasses.fields(cls))


WRONG = [
    (WMVAEConfig, {"latent_size": 0}),
    (WMVAEConfig, {"latent_size": 2.5}),
    (WMVAEConfig, {"latent_size": True}),
    (WMVAEConfig, {"learning_rate": 0.0}),
    (WMVAEConfig, {"learning_rate": float("nan")}),
    (WMVAEConfig, {"learning_rate": "1e-3"}),
    (WMVAEConfig, {"train_batch_size": -1}),
    (WMVAEConfig, {"num_epochs": 0}),
    (WMVAEConfig, {"scheduler_factor": 1.0}),
    (WMVAEConfig, {"epoch_size": -1}),
    (WMVAEConfig, {"kl_tolerance": -0.5}),
    (WMVAEConfig, {"data_dir": ""}),
    (WMVAEConfig, {"noreload": "yes"}),
    (WMVAEConfig, {"device": "quantum"}),
    (WMVAEConfig, {"device": "cuda:"}),
    (WMVAEConfig, {"beta": -1.0}),
    (WMVAEConfig, {"extra": None}),
    (WMMDNRNNConfig, {"hidden_size": 0}),
    (WMMDNRNNConfig, {"gmm_components": 0}),
    (WMMDNRNNConfig, {"seq_len": 0}),
    (WMMDNRNNConfig, {"learning_rate": float("inf")}),
    (WMMDNRNNConfig, {"include_reward": 1}),
    (WMControllerConfig, {"pop_size": 1}),
    (WMControllerConfig, {"sigma0": 0.0}),
    (WMControllerConfig, {"target_return": float("nan")}),
    (WMControllerConfig, {"max_workers": 0}),
    (WMControllerConfig, {"env_name": ""}),
    (WMControllerConfig, {"evaluator": "threads"}),
    (WMControllerConfig, {"hidden_size": -1}),
    (WMControllerConfig, {"env_kwargs": [1]}),
    (WMControllerConfig, {"patience": -1}),
    (WMControllerConfig, {"temperature": 0.0}),
    (WMControllerConfig, {"seed": -1}),
]


@pytest.mark.parametrize(("cls", "values"), WRONG)
def test_what_cannot_work_is_refused_by_its_name(cls: type, values: dict[str, Any]) -> None:
    (field,) = values
    with pytest.raises(ValueError, match=rf"{cls.__name__}\.{field}") as caught:
        make(cls, **values)
    if field != "data_dir" and field != "env_name":  # an empty name is called that
        assert repr(values[field]) in str(caught.value)


@pytest.mark.parametrize("size", [(96, 96), (64, 32), (0, 64), (64, -64)])
def test_frames_of_another_size_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"height|width"):
        WMVAEConfig(*size)


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_devices_by_name(device: str) -> None:
    assert WMVAEConfig(64, 64, device=device).device == device


@pytest.mark.parametrize("size", [0, 256, 512])
def test_c_may_see_none_of_m_or_h_or_h_and_c(size: int) -> None:
    assert WMControllerConfig(hidden_size=size).hidden_size == size


def test_arguments_of_the_environment_are_each_configurations_own() -> None:
    one, two = WMControllerConfig(env_kwargs={"continuous": False}), WMControllerConfig()
    assert one.to_dict()["env_kwargs"] == {"continuous": False}
    two.env_kwargs["a"] = 1
    assert WMControllerConfig().env_kwargs == {}


def test_whole_numbers_serve_as_floats() -> None:
    assert WMControllerConfig(target_return=900).target_return == 900
