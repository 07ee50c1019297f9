"""From nothing to a driver, stage by stage."""

from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from torch import nn

from wmlib.agent import Agent
from wmlib.checkpoints import atomic_path, load_checkpoint, read_json, write_json
from wmlib.collect import generate_rollouts
from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig
from wmlib.datasets import split_point
from wmlib.devices import faster
from wmlib.diagnosis import diagnose_mdrnn, diagnose_vae, in_words
from wmlib.dream import Dream
from wmlib.envs import ActionMap, action_space
from wmlib.evaluators import DreamEvaluator, Evaluator
from wmlib.evolution import train_controller, world_options
from wmlib.latents import latent_sets, load_vae, precompute_latents
from wmlib.mdrnn import MDRNN, mdrnn_from_state
from wmlib.pixels import frames_to_tensor, tensor_to_frames
from wmlib.policies import make_policy
from wmlib.rollouts import read_rollout, rollout_files, rollout_length
from wmlib.training import train_convae, train_mdn_rnn
from wmlib.world import load_agent

BEGINNINGS = 32  # episodes in which dreams begin
MOST_FRAMES = 2000  # on which V is judged

# What the command line's flags do not set. `rollouts` is a list of calls of generate_rollouts,
# each up to `num_rollouts` files in all.
PRESETS: dict[str, dict[str, Any]] = {
    # The paper's sizes and the reference page's defaults, for whoever sets the rest by hand.
    "none": {
        "rollouts": [{"num_rollouts": 1000, "policy": "random"}],
        "episodes": 100, "vae": {}, "rnn": {}, "ctrl": {},
    },
    # Every stage in seconds: whether it runs, not whether it learns.
    "smoke": {
        "rollouts": [{"num_rollouts": 4, "seq_len": 40, "policy": "brownian"}], "episodes": 2,
        "vae": {"num_epochs": 2, "epoch_size": 64}, "rnn": {"num_epochs": 2, "seq_len": 8},
        "ctrl": {"pop_size": 4, "n_samples": 1, "num_generations": 2, "time_limit": 40,
                 "max_workers": 2},
    },
    # A driver that clearly beats chance, within a quarter of an hour on two cores.
    "quick": {
        "rollouts": [{"num_rollouts": 96, "seq_len": 300, "policy": "brownian"}], "episodes": 10,
        "vae": {"train_batch_size": 100, "num_epochs": 6, "epoch_size": 15_000,
                "sample_interval": 3},
        "rnn": {"batch_size": 64, "seq_len": 64, "num_epochs": 140},
        "ctrl": {"pop_size": 16, "n_samples": 2, "num_generations": 14, "patience": 60},
    },
}  # fmt: skip


@dataclass
class Run:
    """A whole training: where things are, and the settings of each stage.

    Attributes:
        env_name, env_kwargs: Gymnasium id or ``module:Id``, and arguments of the environment.
        data_dir, logdir: Folders of the rollouts, and of checkpoints and logs.
        rollouts: Calls of ``generate_rollouts``, in order.
        vae, rnn, ctrl: Fields of the three configurations.
        seed: Seed of everything.
        precompute: Encode all frames before M is trained.
    """

    env_name: str
    data_dir: str
    logdir: str
    rollouts: list[dict[str, Any]]
    vae: dict[str, Any] = field(default_factory=dict)
    rnn: dict[str, Any] = field(default_factory=dict)
    ctrl: dict[str, Any] = field(default_factory=dict)
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    precompute: bool = True

    def __post_init__(self) -> None:
        # A wrong name fails here, before any work.
        space = action_space(self.env_name, **self.env_kwargs)
        for call in self.rollouts:  # and a wrong policy, even where nothing is left to collect
            make_policy(call.get("policy", "random"), space, 1)
        places: dict[str, Any] = {"logdir": self.logdir, "seed": self.seed}
        data = places | {"data_dir": self.data_dir}
        self.vae_config = WMVAEConfig(64, 64, **(data | self.vae))
        sizes = {"latent_size": self.vae_config.latent_size, "action_size": ActionMap(space).size}
        self.rnn_config = WMMDNRNNConfig(**(data | sizes | self.rnn))
        sizes["hidden_size"] = self.rnn_config.hidden_size
        named: dict[str, Any] = {"env_name": self.env_name, "env_kwargs": self.env_kwargs}
        self.ctrl_config = WMControllerConfig(**(places | sizes | named | self.ctrl))

    def collect(self) -> None:
        """Stage 0: rollouts; those that are there already are kept."""
        ray, workers = self.ctrl_config.evaluator == "ray", self.ctrl_config.max_workers
        options: dict[str, Any] = {"num_workers": workers, "env_kwargs": self.env_kwargs}
        for call in self.rollouts:
            generate = _cluster().collect_on_cluster if ray else generate_rollouts
            generate(self.data_dir, self.env_name, seed=self.seed, **(options | call))

    def check_windows(self, asked_for: bool = True) -> None:
        """No window of M's longer than any episode: ValueError if asked for, else it is cut."""
        lengths = [rollout_length(file) for file in rollout_files(self.data_dir)]
        cut, seq_len = split_point(len(lengths)), self.rnn_config.seq_len
        longest = min(max(part) for part in (lengths[:cut], lengths[cut:]) if part)
        if longest < seq_len:
            text = f"M's windows have {seq_len} steps, the longest episode in {self.data_dir} has "
            fitting = max(1, min(longest, sorted(lengths)[cut // 2]))
            if asked_for:
                raise ValueError(f"{text}{longest}: add --rnn_seq_len {fitting}")
            print(f"{text}{longest}: they are cut to {fitting}")
            self.rnn_config.seq_len = fitting

    def train_vae(self) -> None:
        """Stage 1: V."""
        if self._finished("vae"):
            load_vae(self.vae_config)  # says so if it was trained for another size
        else:
            train_convae(self.vae_config, on_sample=self._grid)
        self._judge("vae")

    def train_rnn(self) -> None:
        """Stage 2: M."""
        if not self._finished("mdrnn"):
            film = None if self.vae_config.nosamples else self._film
            train_mdn_rnn(self.vae_config, self.rnn_config, None, None, self.precompute, film)
        self._judge("mdrnn")

    def _judge(self, stage: str) -> None:
        """Say, once, whether V sees or M foresees, on held-out episodes; history.json keeps it."""
        path = Path(self.logdir) / stage / "history.json"
        record = read_json(path, "epochs")
        if "verdict" in record or (stage == "mdrnn" and not self.precompute):
            return
        if stage == "vae":
            files = rollout_files(self.data_dir)
            files = files[split_point(len(files)) :] or files
            frames = [read_rollout(file).observations for file in files[:BEGINNINGS]]
            found = diagnose_vae(load_vae(self.vae_config), np.concatenate(frames)[:MOST_FRAMES])
        else:
            latents = precompute_latents(self.vae_config, self.rnn_config)
            train, test = latent_sets(latents, self.rnn_config.seq_len)
            best = path.with_name("best.tar")
            state, size = load_checkpoint(best)["state_dict"], self.vae_config.latent_size
            found = diagnose_mdrnn(mdrnn_from_state(state, size, str(best)), test or train)
        print(in_words(found))
        write_json(path, record | {"verdict": in_words(found)})

    def train_ctrl(self) -> None:
        """Stage 3: C, in the world, on a cluster or in M's dream."""
        agent = load_agent(self.ctrl_config, self.vae_config.device)
        evaluator = self._evaluator(agent)
        with nullcontext() if evaluator is None else closing(evaluator):
            train_controller(self.ctrl_config, agent, evaluator)

    def _evaluator(self, agent: Agent) -> Evaluator | None:
        """Where fitness comes from, if it is not this machine's environments."""
        config = self.ctrl_config
        if config.evaluator == "ray":
            options = world_options(config)
            ray: Evaluator = _cluster().RayEvaluator(agent, config.env_name, **options)
            return ray
        if config.evaluator != "dream":
            return None
        if not self.rnn_config.include_reward:
            raise ValueError(
                "WMControllerConfig.evaluator is 'dream', WMMDNRNNConfig.include_reward is off: "
                "such an M has no reward to give; train it with the reward"
            )
        files = rollout_files(self.data_dir)
        files = files[: split_point(len(files))]
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
        pairs = zip(rollouts, np.linspace(0.05, 0.95, len(rollouts)), strict=True)  # early to late
        frames = np.stack([r.observations[int(m * len(r))] for r, m in pairs])
        x = frames_to_tensor(frames).to(next(vae.parameters()).device)
        rows = [np.hstack(list(row)) for row in (frames, tensor_to_frames(vae(x)[0]))]
        self._picture(f"vae/samples/epoch_{epoch:03d}.png", np.concatenate(rows))

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
            dream.step(torch.from_numpy(rollout.actions[step]).to(dream.device).expand(3, -1))
            film.append(np.hstack([rollout.observations[step + 1], *dream.frames()]))
        self._picture(f"mdrnn/samples/dream_{epoch:03d}.gif", np.stack(film), loop=0, duration=40)

    def _picture(self, name: str, picture: np.ndarray, **options: Any) -> None:
        with atomic_path(Path(self.logdir) / name) as temporary:
            iio.imwrite(temporary, picture, **options)


def _cluster() -> Any:
    """``wmlib.fast.ray``."""
    if (cluster := faster("ray")) is None:
        raise RuntimeError("a Ray cluster needs wmlib.fast, which is not there")
    return cluster
