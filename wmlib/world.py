"""V, M and C that belong together, loaded and saved."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wmlib.agent import Agent
from wmlib.checkpoints import atomic_path, load_checkpoint
from wmlib.config import WMControllerConfig
from wmlib.controller import Controller, controller_from_state
from wmlib.envs import TAKE_COVER, action_space
from wmlib.mdrnn import MDRNN, MDRNNCell, mdrnn_from_state
from wmlib.rollouts import Rollout, read_rollout, rollout_files
from wmlib.vae import ConvVAE, vae_from_state

FOLDER = Path(__file__).parent / "pretrained"
WEIGHTS = "weights.safetensors"
SHIPPED = "carracing-v3"  # what is loaded when no name is given
SHIPPED_FOR = {TAKE_COVER: "takecover"}  # what plays another game than that one's
CONTROLLER = "controller."
PARTS = {"vae": "vae.", "mdrnn": "mdrnn.", "controller": "controller.shipped."}  # name prefixes


@dataclass
class WorldModel:
    """V, M and C that belong together.

    Attributes:
        vae: V.
        mdrnn: M, the sequence model.
        controller: C.
        info: ``env_name``, ``env_kwargs`` and what else is known of the training.
        folder: Where it was read from; holds sample rollouts and the report, if there are any.
        others: Further C by name, of other searches with the same V and M.
    """

    vae: ConvVAE
    mdrnn: MDRNN
    controller: Controller
    info: dict[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: FOLDER)
    others: dict[str, Controller] = field(default_factory=dict)

    @property
    def cell(self) -> MDRNNCell:
        """M one step at a time, a fresh copy."""
        return self.mdrnn.to_cell().eval()

    @property
    def env_name(self) -> str:
        """The environment that it was trained for."""
        return str(self.info.get("env_name", "CarRacing-v3"))

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Further arguments of that environment."""
        return dict(self.info.get("env_kwargs", {}))

    def space(self) -> gym.Space[Any]:
        """The action space of that environment."""
        return action_space(self.env_name, **self.env_kwargs)

    def agent(self, other: str = "", **kwargs: Any) -> Agent:
        """The agent, with C or one of the others; further arguments are ``Agent``'s."""
        if other and other not in self.others:
            raise ValueError(f"no other controller {other!r}; there are {sorted(self.others)}")
        controller = self.others[other] if other else self.controller
        return Agent(self.vae, self.cell, controller, self.space(), **kwargs)

    def rollouts(self, player: str = "") -> list[Rollout]:
        """The sample episodes shipped beside the weights; those of one player if it is named."""
        folder = self.folder / "rollouts" / player
        return [read_rollout(path) for path in rollout_files(folder)]


def round_as_shipped(model: nn.Module) -> None:
    """Round weights to fp16 in place, the precision in which V and M ship."""
    model.half().float()


def load_trained(logdir: str | os.PathLike[str], **info: Any) -> WorldModel:
    """V, M and C from ``<logdir>/{vae,mdrnn,ctrl}/best.tar``, V and M rounded as they ship.

    Args:
        logdir: Of a training, which remembers its environment.
        info: What else is known of it, or better.

    Raises:
        FileNotFoundError: If a stage is missing; names it.
        ValueError: If a file cannot be trusted, or the sizes do not fit together.
    """
    vae, mdrnn = _load_vision_and_memory(logdir)
    path = Path(logdir) / "ctrl" / "best.tar"
    checkpoint = load_checkpoint(path)
    controller = controller_from_state(checkpoint["state_dict"], str(path))
    known = {key: checkpoint.get("config", {}).get(key) for key in ("env_name", "env_kwargs")}
    known = {key: value for key, value in known.items() if value is not None}
    return WorldModel(vae, mdrnn, controller, known | info, Path(logdir))


def _load_vision_and_memory(logdir: str | os.PathLike[str]) -> tuple[ConvVAE, MDRNN]:
    paths = {stage: Path(logdir) / stage / "best.tar" for stage in ("vae", "mdrnn")}
    states = {stage: load_checkpoint(path)["state_dict"] for stage, path in paths.items()}
    vae = vae_from_state(states["vae"], str(paths["vae"]))
    mdrnn = mdrnn_from_state(states["mdrnn"], vae.latent_size, str(paths["mdrnn"]))
    for model in (vae, mdrnn):
        round_as_shipped(model)
    return vae, mdrnn


def load_agent(config: WMControllerConfig, device: str = "cuda") -> Agent:
    """V and M of ``config.logdir``, rounded as they ship, and a controller at zero to be evolved.

    Raises:
        FileNotFoundError: If V or M is missing; names the stage.
        ValueError: If their sizes are not the configuration's; names both.
    """
    vae, mdrnn = _load_vision_and_memory(config.logdir)
    controller = Controller(config.latent_size, config.hidden_size, config.action_size)
    for parameter in controller.parameters():
        nn.init.zeros_(parameter)
    space = action_space(config.env_name, **config.env_kwargs)
    return Agent(vae, mdrnn.to_cell(), controller, space, device, config.sample_z)


def save_pretrained(folder: str | os.PathLike[str], world: WorldModel) -> None:
    """Write all weights as one safetensors file, V and M in fp16, and the info beside them."""
    tensors = {
        prefix + key: value.detach().to(torch.float if part == "controller" else torch.half)
        for part, prefix in PARTS.items()
        for key, value in getattr(world, part).state_dict().items()
    }
    for name, controller in world.others.items():
        state = controller.state_dict()
        tensors |= {f"{CONTROLLER}{name}.{key}": value.float() for key, value in state.items()}
    tensors = {key: value.detach().contiguous() for key, value in tensors.items()}
    with atomic_path(Path(folder) / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"info": json.dumps(world.info)})


def load_pretrained(name: str | os.PathLike[str] = SHIPPED) -> WorldModel:
    """V, M and C that ship with the package, or from a folder of the same form.

    Raises:
        FileNotFoundError: If there are no such weights; lists those there are.
        ValueError: If the file cannot be read.
    """
    folder = FOLDER / name if (FOLDER / name / WEIGHTS).exists() else Path(name)
    path = folder / WEIGHTS
    if not path.exists():
        there = sorted(path.parent.name for path in FOLDER.glob(f"*/{WEIGHTS}"))
        raise FileNotFoundError(f"no pretrained weights called {str(name)!r}; there are {there}")
    try:
        with safe_open(path, framework="pt") as file:
            info = json.loads((file.metadata() or {}).get("info", "{}"))
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); install the package again") from error
    states: dict[str, dict[str, Tensor]] = {
        part: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        for part, prefix in PARTS.items()
    }
    vae = vae_from_state(states["vae"], str(path))
    mdrnn = mdrnn_from_state(states["mdrnn"], vae.latent_size, str(path))
    controller = controller_from_state(states["controller"], str(path))
    names = {key.split(".")[1] for key in tensors if key.startswith(CONTROLLER)} - {"shipped"}
    names -= {key.split(".")[1] for key in tensors if key.startswith("memory.")}  # of another M
    others: dict[str, Controller] = {}
    for other in sorted(names):
        prefix = f"{CONTROLLER}{other}."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        others[other] = controller_from_state(state, str(path))
    return WorldModel(vae, mdrnn, controller, info, folder, others)
