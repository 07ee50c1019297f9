"""Trained weights, ready to use."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wmlib.agent import Agent
from wmlib.checkpoints import atomic_path, load_checkpoint, load_weights
from wmlib.config import WMControllerConfig
from wmlib.controller import Controller
from wmlib.envs import TAKE_COVER, action_space
from wmlib.mdrnn import MDRNN, MDRNNCell, mdrnn_from_state
from wmlib.rollouts import Rollout, read_rollout, rollout_files
from wmlib.vae import ConvVAE, vae_from_state

__all__ = ["WorldModel", "load_agent", "load_pretrained", "load_trained", "save_pretrained"]

FOLDER = Path(__file__).parent / "pretrained"
WEIGHTS = "weights.safetensors"
SHIPPED = "carracing-v3"  # what is loaded when no name is given
SHIPPED_FOR = {TAKE_COVER: "takecover"}  # what drives in another game than that one's
CONTROLLER, MEMORY = "controller.", "memory."
ABLATION = "ablation"  # folder of the variants' searches, below a run's


@dataclass
class WorldModel:
    """V, M and C that belong together.

    Attributes:
        vae: V.
        mdrnn: M, the sequence model.
        controllers: C by name; ``"shipped"`` is the one that drives, others are the ablation's.
        info: ``env_name``, ``env_kwargs`` and what else is known of the training.
        folder: Where it was read from; holds sample rollouts and the report, if there are any.
        memories: The M that a controller drives with, by its name, where it is not ``mdrnn``.
    """

    vae: ConvVAE
    mdrnn: MDRNN
    controllers: dict[str, Controller]
    info: dict[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: FOLDER)
    memories: dict[str, MDRNN] = field(default_factory=dict)

    @property
    def controller(self) -> Controller:
        """The controller that drives."""
        return self.controllers["shipped"]

    @property
    def cell(self) -> MDRNNCell:
        """M one step at a time, a fresh copy."""
        return self.mdrnn.to_cell().eval()

    @property
    def env_name(self) -> str:
        """The environment that it was trained for."""
        return str(self.info.get("env_name", "CarRacing-v3"))

    def space(self) -> gym.Space[Any]:
        """The action space of that environment."""
        return action_space(self.env_name, **self.info.get("env_kwargs", {}))

    def agent(self, controller: str = "shipped", **kwargs: Any) -> Agent:
        """An agent that drives with one of the controllers; further arguments are ``Agent``'s."""
        if controller not in self.controllers:
            raise ValueError(f"no controller {controller!r}; there are {sorted(self.controllers)}")
        cell = self.memories.get(controller, self.mdrnn).to_cell().eval()
        return Agent(self.vae, cell, self.controllers[controller], self.space(), **kwargs)

    def rollouts(self, player: str = "") -> list[Rollout]:
        """The sample episodes shipped beside the weights; those of one player if it is named."""
        folder = self.folder / "rollouts" / player
        return [read_rollout(path) for path in rollout_files(folder)]


def controller_from_state(state: dict[str, Tensor], origin: str) -> Controller:
    """A controller of the sizes that its weights have."""
    if "fc.weight" not in state:
        raise ValueError(f"{origin} holds no controller: fc.weight is missing")
    actions, inputs = state["fc.weight"].shape
    controller = Controller(inputs, 0, actions)
    load_weights(controller, state, origin)
    return controller


def load_trained(logdir: str | os.PathLike[str], search: str = "ctrl", **info: Any) -> WorldModel:
    """V, M and C from ``<logdir>/{vae,mdrnn,ctrl}/best.tar``, V and M rounded as they ship.

    ``search`` names C's folder. The controllers of an ablation come along, if there was one.

    Raises:
        FileNotFoundError: If a stage is missing; names it.
        ValueError: If a file cannot be trusted, or the sizes do not fit together.
    """
    paths = {stage: Path(logdir) / stage / "best.tar" for stage in ("vae", "mdrnn", search)}
    states = {stage: load_checkpoint(path)["state_dict"] for stage, path in paths.items()}
    vae = vae_from_state(states["vae"], str(paths["vae"]))
    mdrnn = mdrnn_from_state(states["mdrnn"], vae.latent_size, str(paths["mdrnn"]))
    for model in (vae, mdrnn):
        model.half().float()
    world = WorldModel(vae, mdrnn, {}, info, Path(logdir))
    world.controllers["shipped"] = controller_from_state(states[search], str(paths[search]))
    for path in sorted((Path(logdir) / ABLATION).glob("*/best.tar")):
        name, memory = path.parent.name, path.with_name("mdrnn.tar")
        state = load_checkpoint(path)["state_dict"]
        world.controllers[name] = controller_from_state(state, str(path))
        if memory.exists():
            state = load_checkpoint(memory)["state_dict"]
            world.memories[name] = mdrnn_from_state(state, vae.latent_size, str(memory))
    return world


def load_untrained(config: WMControllerConfig) -> MDRNN:
    """M of the sizes of ``config.logdir``'s, rounded as it ships, with weights from the seed."""
    path = Path(config.logdir) / "mdrnn" / "best.tar"
    state = load_checkpoint(path)["state_dict"]
    mdrnn = mdrnn_from_state(state, config.latent_size, str(path))
    torch.manual_seed(config.seed)
    sizes = (mdrnn.latents, mdrnn.actions, mdrnn.hiddens, mdrnn.gaussians)
    drawn = MDRNN(*sizes, mdrnn.mixture)
    return drawn.half().float().eval()


def load_agent(config: WMControllerConfig) -> Agent:
    """V and M of ``config.logdir``, rounded as they ship, and a controller at zero to be evolved.

    Raises:
        FileNotFoundError: If V or M is missing; names the stage.
        ValueError: If their sizes are not the configuration's; names both.
    """
    paths = {stage: Path(config.logdir) / stage / "best.tar" for stage in ("vae", "mdrnn")}
    states = {stage: load_checkpoint(path)["state_dict"] for stage, path in paths.items()}
    vae = vae_from_state(states["vae"], str(paths["vae"]))
    mdrnn = mdrnn_from_state(states["mdrnn"], vae.latent_size, str(paths["mdrnn"]))
    if not config.trained_m:
        mdrnn = load_untrained(config)
    for model in (vae, mdrnn):
        model.half().float()
    controller = Controller(
        config.latent_size, config.hidden_size if config.use_h else 0, config.action_size
    )
    space = action_space(config.env_name, **config.extra.get("env_kwargs", {}))
    for parameter in controller.parameters():
        torch.nn.init.zeros_(parameter)
    return Agent(
        vae, mdrnn.to_cell(), controller, space, config.device, config.sample_z, config.amp
    )


def save_pretrained(folder: str | os.PathLike[str], world: WorldModel) -> None:
    """Write all weights as one safetensors file, V and M in fp16, and the info beside them."""
    parts: dict[str, torch.nn.Module] = {"vae.": world.vae, "mdrnn.": world.mdrnn}
    parts |= {f"{MEMORY}{name}.": mdrnn for name, mdrnn in world.memories.items()}
    tensors = {
        prefix + key: value.detach().half().contiguous()
        for prefix, model in parts.items()
        for key, value in model.state_dict().items()
    }
    for name, controller in world.controllers.items():
        for key, value in controller.state_dict().items():  # small: kept as they were evolved
            tensors[f"{CONTROLLER}{name}.{key}"] = value.detach().float().contiguous()
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
    vae = vae_from_state(_below(tensors, "vae."), str(path))
    mdrnn = mdrnn_from_state(_below(tensors, "mdrnn."), vae.latent_size, str(path))
    names = {key.rpartition(".fc.")[0] for key in _below(tensors, CONTROLLER)}
    controllers = {
        name: controller_from_state(_below(tensors, f"{CONTROLLER}{name}."), str(path))
        for name in sorted(names)
    }
    memories = {
        name: mdrnn_from_state(_below(tensors, f"{MEMORY}{name}."), vae.latent_size, str(path))
        for name in sorted({key.split(".")[0] for key in _below(tensors, MEMORY)})
    }
    return WorldModel(vae, mdrnn, controllers, info, folder, memories)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix``, without it."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
