"""The knobs, once."""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import MISSING
from math import inf, isfinite
from typing import Any, Self, TypeVar, dataclass_transform

from wmlib.envs import TIME_LIMIT
from wmlib.pixels import FRAME_SIZE

T = TypeVar("T")
TINY = 1e-12  # the lower limit of what must be positive
KINDS: Any = {"int": int, "float": (int, float), "bool": bool, "str": str, "dict[str, Any]": dict}


def knob(
    default: Any = MISSING, about: str = "", low: float = -inf, high: float = inf, choices: Any = ()
) -> Any:
    """A field with its description and limits (both allowed), for the help and the book."""
    begin: Any = {"default_factory": dict} if default is dict else {"default": default}
    metadata = {"about": about, "low": low, "high": high, "choices": choices}
    return dataclasses.field(**begin, metadata=metadata)


@dataclass_transform(field_specifiers=(knob,))
def _config(cls: type[T]) -> type[T]:
    """A dataclass whose constructor puts unknown keywords into ``extra``."""
    cls = dataclasses.dataclass(cls)
    plain_init = cls.__init__
    known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        unknown = {key: kwargs.pop(key) for key in list(kwargs) if key not in known}
        for key in unknown:
            near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.8)
            if near:  # a field that was misspelt, it seems
                raise ValueError(
                    f"{cls.__name__} has no field {key!r}; did you mean {near[0]!r}? A setting of "
                    f"your own whose name is as near as this goes in by extra={{{key!r}: …}}"
                )
        if unknown:
            kwargs["extra"] = {**kwargs.get("extra", {}), **unknown}
        plain_init(self, *args, **kwargs)

    __init__.__wrapped__ = plain_init  # type: ignore[attr-defined]  # keeps the signature readable
    cls.__init__ = __init__  # type: ignore[method-assign]
    return cls


class _Config:
    """What the three configurations share: checks, extras as attributes, dict round trip."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            name, limits, value = f"{owner}.{field.name}", field.metadata, getattr(self, field.name)
            is_wrong = isinstance(value, bool) and field.type != "bool"  # a bool is an int, too
            if is_wrong or not isinstance(value, KINDS[str(field.type)]):
                raise ValueError(f"{name} must be of type {field.type}, found {value!r}")
            if isinstance(value, str):
                if not value:
                    raise ValueError(f"{name} must not be empty")
                if limits["choices"] and value not in limits["choices"]:
                    raise ValueError(f"{name} must be one of {limits['choices']}, found {value!r}")
            elif isinstance(value, (int, float)):
                low, high = limits["low"], limits["high"]
                if not (isfinite(value) and low <= value <= high):
                    raise ValueError(f"{name} must lie in [{low}, {high}], found {value!r}")
        device = self.__dict__.get("device", "cpu")
        if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
            raise ValueError(f"{owner}.device must be cuda, cuda:N or cpu, found {device!r}")

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"{type(self).__name__} has no field or extra key {name!r}")

    def to_dict(self) -> dict[str, Any]:
        """All fields, ``extra`` as a dict of its own."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of ``to_dict``; unknown keys go to ``extra``."""
        return cls(**values)


@_config
class WMVAEConfig(_Config):
    """Stage V: the data, the ConvVAE and its training."""

    height: int = knob(about="height of a frame in pixels; the ConvVAE is built for 64", low=1)
    width: int = knob(about="width of a frame in pixels; the ConvVAE is built for 64", low=1)
    latent_size: int = knob(32, "length of z", low=1)
    device: str = knob("cuda", "cuda (the CPU where there is none), cuda:N or cpu")
    train_batch_size: int = knob(32, "frames per batch", low=1)
    num_epochs: int = knob(10, "training epochs", low=1)
    data_dir: str = knob("./data", "folder of the rollouts (.npz)")
    learning_rate: float = knob(1e-3, "Adam's first learning rate; a cosine leads to 0", low=TINY)
    logdir: str = knob("results", "folder for checkpoints, samples and logs")
    noreload: bool = knob(False, "start anew even where a checkpoint exists")
    nosamples: bool = knob(False, "write no sample pictures")
    scheduler_patience: int = knob(5, "epochs without progress before the rate falls", low=0)
    scheduler_factor: float = knob(0.5, "what the rate is multiplied by", low=TINY, high=1 - TINY)
    early_stopping_patience: int = knob(30, "epochs without progress before the end", low=0)
    sample_interval: int = knob(5, "epochs between two sample grids", low=1)
    epoch_size: int = knob(0, "frames per epoch, drawn afresh in each (0: all)", low=0)
    beta: float = knob(1.0, "weight of the KL term", low=0)
    kl_tolerance: float = knob(0.0, "nats per latent that cost nothing (0: off)", low=0)
    seed: int = knob(0, "seed of weights, batches and noise", low=0, high=2**63 - 1)
    extra: dict[str, Any] = knob(dict, "whatever else was given; reads as attributes too")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.height, self.width) != FRAME_SIZE:
            raise ValueError(
                f"WMVAEConfig.height × width must be 64 × 64, found {self.height} × {self.width}: "
                "rollouts are stored, and the ConvVAE's four layers are cut, for 64 × 64 frames"
            )


@_config
class WMMDNRNNConfig(_Config):
    """Stage M: the MDN-RNN and its training."""

    latent_size: int = knob(32, "length of z", low=1)
    action_size: int = knob(3, "length of the action M is told", low=1)
    hidden_size: int = knob(256, "LSTM units", low=1)
    gmm_components: int = knob(5, "Gaussians in the mixture", low=1)
    device: str = knob("cuda", "cuda (the CPU where there is none), cuda:N or cpu")
    batch_size: int = knob(16, "windows per batch", low=1)
    seq_len: int = knob(32, "steps per window", low=1)
    num_epochs: int = knob(30, "training epochs", low=1)
    data_dir: str = knob("./data", "folder of the rollouts (.npz)")
    learning_rate: float = knob(1e-3, "Adam's first learning rate; a cosine leads to 0", low=TINY)
    logdir: str = knob("results", "folder for checkpoints, films and logs")
    noreload: bool = knob(False, "start anew even where a checkpoint exists")
    include_reward: bool = knob(True, "whether M learns to predict the reward")
    mixture: str = knob(
        "vector", "one mixture for all of z, or one for each latent", choices=("vector", "latent")
    )
    terminal_weight: float = knob(1.0, "what a step that ends an episode counts", low=TINY)
    scheduler_patience: int = knob(5, "epochs without progress before the rate falls", low=0)
    scheduler_factor: float = knob(0.5, "what the rate is multiplied by", low=TINY, high=1 - TINY)
    early_stopping_patience: int = knob(30, "epochs without progress before the end", low=0)
    seed: int = knob(0, "seed of weights, batches and noise", low=0, high=2**63 - 1)
    extra: dict[str, Any] = knob(dict, "whatever else was given; reads as attributes too")


@_config
class WMControllerConfig(_Config):
    """Stage C: the linear controller and CMA-ES."""

    latent_size: int = knob(32, "length of z", low=1)
    hidden_size: int = knob(256, "how much of M's state C sees: 0, H for h, 2H for h and c", low=0)
    action_size: int = knob(3, "length of C's output", low=1)
    env_name: str = knob("CarRacing-v3", "Gymnasium id, or module:Id")
    logdir: str = knob("results", "folder for checkpoints and logs")
    n_samples: int = knob(4, "episodes per candidate; all candidates get the same ones", low=1)
    pop_size: int = knob(10, "candidates per generation", low=2)
    target_return: float = knob(950.0, "stop when the CMA mean reaches this")
    max_workers: int = knob(32, "largest number of environment processes", low=1)
    display: bool = knob(True, "show progress bars")
    time_limit: int = knob(TIME_LIMIT, "longest episode in steps", low=1)
    env_kwargs: dict[str, Any] = knob(dict, "further arguments of the environment, as JSON")
    num_generations: int = knob(100, "generations in all", low=1)
    sigma0: float = knob(0.1, "CMA-ES's first step size", low=TINY, high=1e6)
    patience: int = knob(0, "training steps without reward that end an episode (0: never)", low=0)
    sample_z: bool = knob(False, "act on a sample of z instead of its mean")
    evaluator: str = knob(
        "auto",
        "where fitness is measured: Gymnasium's environments, EnvPool's (auto: where they agree "
        "with Gymnasium's), a Ray cluster, or M's dream",
        choices=("auto", "gymnasium", "envpool", "ray", "dream"),
    )
    temperature: float = knob(1.0, "τ of the dream, where C is trained in it", low=TINY)
    seed: int = knob(0, "seed of the search and of its episodes", low=0, high=2**63 - 1)
    extra: dict[str, Any] = knob(dict, "whatever else was given; reads as attributes too")
