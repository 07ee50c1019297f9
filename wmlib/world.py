"""V, M and C that belong together, loaded and saved."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wmlib.agent import Agent
from wmlib.checkpoints import atomic_path, check_fingerprint, fingerprint, load_checkpoint, reading
from wmlib.config import WMControllerConfig
from wmlib.controller import Controller, controller_from_state
from wmlib.envs import TAKE_COVER, action_space, trusted
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
        vae, mdrnn, controller: V, M (the sequence model) and C.
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
        """The action space of that environment; see ``trusted``."""
        return action_space(trusted(self.env_name, self.folder), **self.env_kwargs)

    def agent(self, other: str = "", **kwargs: Any) -> Agent:
        """The agent, with C or one of the others; further arguments are ``Agent``'s."""
        if other and other not in self.others:
            raise ValueError(f"no other controller {other!r}; there are {sorted(self.others)}")
        controller = self.others[other] if other else self.controller
        return Agent(self.vae, self.cell, controller, self.space(), **kwargs)

    def rollouts(self, player: str = "", most: int = 8) -> list[Rollout]:
        """Episodes shipped beside the weights, of one player if it is named, or of the training."""
        folder = self.folder / "rollouts" / player
        folder = folder if folder.exists() else Path(self.info.get("data_dir", folder))
        return [read_rollout(path) for path in rollout_files(folder)[:most]]


def round_as_shipped(model: nn.Module) -> None:
    """Round weights to fp16 in place, the precision in which V and M ship."""
    model.half().float()


def load_trained(logdir: str | os.PathLike[str], **info: Any) -> WorldModel:
    """V, M and C from ``<logdir>/{vae,mdrnn,ctrl}/best.tar``, V and M rounded as they ship.

    ``info`` adds to what the training remembers, or overrules it; its ``env_name`` is trusted.

    Raises:
        FileNotFoundError: If a stage is missing; names it.
        ValueError: If a file cannot be trusted, or the sizes do not fit together.
    """
    if "env_name" in info:
        action_space(info["env_name"], **info.get("env_kwargs", {}))
    path = Path(logdir) / "ctrl" / "best.tar"
    checkpoint = load_checkpoint(path)
    known = {key: checkpoint.get("config", {}).get(key) for key in ("env_name", "env_kwargs")}
    vae, mdrnn, known["data_dir"] = load_v_and_m(logdir, str(known["env_name"] or ""))
    controller = controller_from_state(checkpoint["state_dict"], str(path))
    info = {key: value for key, value in known.items() if value is not None} | info
    return WorldModel(vae, mdrnn, controller, info, Path(logdir))


def load_v_and_m(logdir: str | os.PathLike[str], env_name: str = "") -> tuple[ConvVAE, MDRNN, Any]:
    """V and M, rounded as they ship; of this environment, if they say. And where rollouts were."""
    paths = [Path(logdir) / stage / "best.tar" for stage in ("vae", "mdrnn")]
    checkpoints, game = [load_checkpoint(path) for path in paths], env_name.rpartition(":")[2]
    for path, checkpoint in zip(paths, checkpoints, strict=True):
        if game and (found := checkpoint.get("env_name")) not in (None, "", game):
            raise ValueError(f"{path} was trained on {found}, not on {game}: give another logdir")
    vae = vae_from_state(checkpoints[0]["state_dict"], str(paths[0]))
    mdrnn = mdrnn_from_state(checkpoints[1]["state_dict"], vae.latent_size, str(paths[1]))
    round_as_shipped(vae)
    round_as_shipped(mdrnn)
    return vae, mdrnn, checkpoints[0].get("config", {}).get("data_dir")


def load_agent(config: WMControllerConfig, device: str = "cuda") -> Agent:
    """V and M of ``config.logdir``, rounded as they ship, and a controller at zero to be evolved.

    Raises:
        FileNotFoundError: If V or M is missing; names the stage.
        ValueError: If their sizes are not the configuration's; names both.
    """
    vae, mdrnn, _ = load_v_and_m(config.logdir, config.env_name)
    controller = Controller(config.latent_size, config.hidden_size, config.action_size)
    for parameter in controller.parameters():
        nn.init.zeros_(parameter)
    space = action_space(config.env_name, **config.env_kwargs)
    return Agent(vae, mdrnn.to_cell(), controller, space, device, config.sample_z)


def save_pretrained(folder: str | os.PathLike[str], world: WorldModel) -> None:
    """Write all weights as one safetensors file, V and M in fp16, and the info beside them."""
    models = {prefix: getattr(world, part) for part, prefix in PARTS.items()}
    models |= {f"{CONTROLLER}{name}.": other for name, other in world.others.items()}
    values = {prefix + k: v for prefix, m in models.items() for k, v in m.state_dict().items()}
    tensors = {}
    for key in sorted(values):
        dtype = torch.float if key.startswith(CONTROLLER) else torch.half
        tensors[key] = values[key].detach().to(dtype).contiguous()
    info = world.info | {"checksum": fingerprint([json.dumps(world.info), tensors])}
    with atomic_path(Path(folder) / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"info": json.dumps(info)})


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
    cure = "install the package again, or replace the file"
    with reading(path, cure=cure), safe_open(path, framework="pt") as file:
        info = dict(json.loads((file.metadata() or {}).get("info", "{}")))
        stored = {key: file.get_tensor(key) for key in sorted(file.keys())}
        checksum = info.pop("checksum", None)
        check_fingerprint([json.dumps(info), stored], checksum)

    def state(prefix: str) -> dict[str, Tensor]:
        return {k.removeprefix(prefix): stored[k].float() for k in stored if k.startswith(prefix)}

    where = str(path)
    vae = vae_from_state(state(PARTS["vae"]), where)
    mdrnn = mdrnn_from_state(state(PARTS["mdrnn"]), vae.latent_size, where)
    controller = controller_from_state(state(PARTS["controller"]), where)
    names = {key.split(".")[1] for key in stored if key.startswith(CONTROLLER)} - {"shipped"}
    names -= {key.split(".")[1] for key in stored if key.startswith("memory.")}  # of another M
    others = {c: controller_from_state(state(f"{CONTROLLER}{c}."), where) for c in sorted(names)}
    return WorldModel(vae, mdrnn, controller, info, folder, others)
