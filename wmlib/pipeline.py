"""From nothing to a driver, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import nn

from wmlib.agent import Agent
from wmlib.axes import Axes
from wmlib.checkpoints import atomic_path, read_json, save_checkpoint
from wmlib.cluster import RayEvaluator, collect_on_cluster
from wmlib.collect import generate_rollouts
from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig
from wmlib.controller import ActionMap
from wmlib.datasets import split_point
from wmlib.dream import Dream
from wmlib.envs import make_env
from wmlib.evolution import train_controller, world_options
from wmlib.fitness import Evaluator, LocalEvaluator
from wmlib.imitation import imitate, input_moments
from wmlib.latents import load_vae
from wmlib.mdrnn import MDRNN
from wmlib.pixels import frames_to_tensor, tensor_to_frames
from wmlib.policies import NoisyPolicy
from wmlib.presets import VARIANTS
from wmlib.pretrained import ABLATION, load_agent, load_untrained
from wmlib.rehearsal import DreamEvaluator
from wmlib.rollouts import read_rollout, rollout_files
from wmlib.training import train_convae, train_mdn_rnn

__all__ = ["Run"]

BEGINNINGS = 32  # episodes in which dreams begin
WATCHED = 64  # episodes that show how C's inputs vary


@dataclass
class Run:
    """A whole training: where things are, and the settings of each stage.

    Attributes:
        env_name: Gymnasium id or ``module:Id``.
        env_kwargs: Further arguments of the environment.
        data_dir: Folder of the rollouts.
        logdir: Folder of checkpoints and logs; the second round's, where there are two.
        rollouts: Calls of ``generate_rollouts``, in order.
        vae, rnn, ctrl: Fields of the three configurations.
        ablation: Fields of ``ctrl`` that are others for the variants; None trains none.
        seed: Seed of everything.
        precompute: Encode all frames before M is trained.
        driver: Who drives where ``policy`` is "drive", and whom C imitates where ``start`` is
            "driver": the agent of the round before.
    """

    env_name: str
    data_dir: str
    logdir: str
    rollouts: list[dict[str, Any]]
    vae: dict[str, Any] = field(default_factory=dict)
    rnn: dict[str, Any] = field(default_factory=dict)
    ctrl: dict[str, Any] = field(default_factory=dict)
    ablation: dict[str, Any] | None = None
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    precompute: bool = True
    driver: Agent | None = None

    def __post_init__(self) -> None:
        env = make_env(self.env_name, **self.env_kwargs)  # a wrong name fails before any work
        self.space = env.action_space
        env.close()
        places: dict[str, Any] = {"logdir": self.logdir, "seed": self.seed}
        data: dict[str, Any] = {"data_dir": self.data_dir}
        self.vae_config = WMVAEConfig(64, 64, **(places | data | self.vae))
        sizes: dict[str, Any] = {
            "latent_size": self.vae_config.latent_size,
            "action_size": ActionMap(self.space).size,
        }
        self.rnn_config = WMMDNRNNConfig(**(places | data | sizes | self.rnn))
        sizes["hidden_size"] = self.rnn_config.hidden_size
        named: dict[str, Any] = {"env_name": self.env_name, "env_kwargs": self.env_kwargs}
        self.ctrl_config = WMControllerConfig(**(places | sizes | named | self.ctrl))

    def collect(self) -> None:
        """Stage 0: rollouts; those that are there already are kept."""
        for call in self.rollouts:
            options = {"num_workers": self.ctrl_config.max_workers} | call
            if options["policy"] == "drive":
                assert self.driver is not None
                options["policy"] = NoisyPolicy(self.driver, self.space)
            generate: Callable[..., Any] = generate_rollouts
            if self.ctrl_config.evaluator == "ray":
                generate = partial(collect_on_cluster, workers=self.ctrl_config.ray_workers)
            generate(
                self.data_dir, self.env_name, seed=self.seed, env_kwargs=self.env_kwargs, **options
            )

    def train_vae(self) -> None:
        """Stage 1: V."""
        if self._finished("vae"):
            load_vae(self.vae_config)  # says so if it was trained for another size
        else:
            train_convae(self.vae_config, on_sample=self._grid)

    def train_rnn(self) -> None:
        """Stage 2: M."""
        if not self._finished("mdrnn"):
            train_mdn_rnn(
                self.vae_config, self.rnn_config, precompute=self.precompute, on_sample=self._film
            )

    def train_ctrl(self) -> None:
        """Stage 3: C, in the world, on a cluster or in M's dream."""
        agent = load_agent(self.ctrl_config)
        evaluator = self._evaluator(agent)
        try:
            start, axes = self._start(agent), self._axes(agent)
            train_controller(self.ctrl_config, agent, evaluator, start, axes)
        finally:
            evaluator.close()

    def is_searching(self) -> bool:
        """Whether all that C's search needs is there, so that nothing before it is needed again."""
        config = self.ctrl_config
        alone = config.evaluator != "dream"  # a dream begins in rollouts
        return alone and self._goes_on() and self._finished("vae") and self._finished("mdrnn")

    def train_ablation(self) -> None:
        """Stage 4: a C for each variant of the agent, all with one, smaller budget."""
        budget = replace(self.ctrl_config, **(self.ablation or {}))
        for variant, (_, changes) in VARIANTS.items():
            config = replace(budget, name=f"{ABLATION}/{variant}", **changes)
            if not config.trained_m:  # M goes with its C, for nobody could draw it again elsewhere
                path = Path(config.logdir) / config.name / "mdrnn.tar"
                save_checkpoint(path, {"state_dict": load_untrained(config).state_dict()})
            train_controller(config)

    def _start(self, agent: Agent) -> np.ndarray | None:
        """The first mean of a new search; None for zeros, or for a search that goes on."""
        if self.ctrl_config.start == "zero" or self._goes_on():
            return None
        if self.driver is None:
            raise ValueError(
                "WMControllerConfig.start is 'driver', and there was no round before this one; "
                "make it 'zero'"
            )
        return imitate(agent, self.driver, rollout_files(self.data_dir))

    def _axes(self, agent: Agent) -> Axes | None:
        """The coordinates of a new search; None for C's weights, or for a search that goes on."""
        if self.ctrl_config.coordinates == "weights" or self._goes_on():
            return None
        files = rollout_files(self.data_dir)[-WATCHED:]  # the last are of whoever drives best
        return Axes.of(input_moments(agent, files))

    def _goes_on(self) -> bool:
        """Whether a search for C was recorded that is to be continued."""
        config = self.ctrl_config
        recorded = Path(config.logdir) / config.name / "search.json"
        return recorded.exists() and not config.noreload

    def _evaluator(self, agent: Agent) -> Evaluator:
        config = self.ctrl_config
        if config.evaluator == "local":
            return LocalEvaluator(agent, config.env_name, **world_options(config))
        if config.evaluator == "ray":
            workers = config.ray_workers
            return RayEvaluator(agent, config.env_name, workers, **world_options(config))
        if not self.rnn_config.include_reward:
            raise ValueError(
                "WMControllerConfig.evaluator is 'dream', WMMDNRNNConfig.include_reward is off: "
                "such an M has no reward to give; train it with the reward"
            )
        files = rollout_files(self.data_dir)
        files = files[: split_point(len(files), self.rnn_config.num_test_files)]
        beginnings = [read_rollout(file) for file in files[:: -(-len(files) // BEGINNINGS)]]
        burn_in = min(30, max(map(len, beginnings)) // 2)
        return DreamEvaluator(agent, beginnings, config.temperature, burn_in, config.time_limit)

    def _finished(self, stage: str) -> bool:
        folder = Path(self.logdir) / stage
        config = self.vae_config if stage == "vae" else self.rnn_config
        if config.noreload or not (folder / "history.json").exists():
            return False
        record = read_json(folder / "history.json", "finished", "epochs")
        enough = record["finished"] and len(record["epochs"]) >= config.num_epochs
        return enough and (folder / "best.tar").exists()

    @torch.no_grad()
    def _grid(self, vae: nn.Module, epoch: int) -> None:
        """Held-out frames over their reconstructions, as a picture."""
        rollouts = [read_rollout(file) for file in rollout_files(self.data_dir)[-8:]]
        moments = np.linspace(0.05, 0.95, len(rollouts))  # early, middle and late in an episode
        frames = np.stack(
            [r.observations[int(m * len(r))] for r, m in zip(rollouts, moments, strict=True)]
        )
        x = frames_to_tensor(frames).to(next(vae.parameters()).device)
        recon = tensor_to_frames(vae(x)[0])
        picture = np.concatenate([np.hstack(list(frames)), np.hstack(list(recon))])
        self._picture(f"vae/samples/epoch_{epoch:03d}.png", picture)

    def _film(self, mdrnn: nn.Module, epoch: int) -> None:
        """Three dreams beside each other, as a GIF, fed the actions of a real episode."""
        assert isinstance(mdrnn, MDRNN)
        rollout = read_rollout(rollout_files(self.data_dir)[-1])
        burn_in = min(30, len(rollout) // 2)
        vae, device = load_vae(self.vae_config), self.rnn_config.device
        dream = Dream(vae, mdrnn.to_cell(), [rollout], burn_in=burn_in, device=device)
        dream.begin_at([(0, burn_in)] * 3)
        film = [np.hstack([rollout.observations[burn_in], *dream.frames()])]
        for step in range(burn_in, min(len(rollout) - 1, burn_in + 100)):
            action = torch.from_numpy(rollout.actions[step]).to(dream.device)
            dream.step(action.expand(3, -1))
            film.append(np.hstack([rollout.observations[step + 1], *dream.frames()]))
        self._picture(f"mdrnn/samples/dream_{epoch:03d}.gif", np.stack(film))

    def _picture(self, name: str, picture: np.ndarray) -> None:
        path = Path(self.logdir) / name
        options: dict[str, Any] = {"loop": 0, "duration": 40} if path.suffix == ".gif" else {}
        with atomic_path(path) as temporary:
            iio.imwrite(temporary, picture, **options)
