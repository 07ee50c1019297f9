"""The rows of the report: what is measured, and against what."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from measure import CPU, Products, Row, in_turns, rate, row, share_of_products, unmeasured
from seed_loop import ENV, OnePerCore

from wmlib import (
    DreamEvaluator,
    LocalEvaluator,
    WMMDNRNNConfig,
    WMVAEConfig,
    encode,
    flatten_parameters,
    generate_rollouts,
    load_pretrained,
    precompute_latents,
    rollout_files,
    train_convae,
    train_mdn_rnn,
)
from wmlib.datasets import Batches
from wmlib.latents import latent_sets
from wmlib.rollouts import rollout_length

# Floating-point operations: of a frame trained on and encoded, of a step of M trained and dreamt.
V_TRAINING, V_ENCODING, M_TRAINING, DREAM = 233e6, 29.6e6, 2.3e6, 0.76e6
GPU = torch.device("cuda")
BATCH, WINDOW = 100, 64


@dataclass
class Sizes:
    """How much is measured.

    Attributes:
        rounds: Times that a rate and its yardstick take turns.
        batches: Of a training or an encoding, per round.
        candidates, tracks, steps: Of a generation.
        alone: Steps of a yardstick's episode.
        rollouts: Collected per round.
        dream_steps: Steps of a dream.
    """

    rounds: int = 5
    batches: int = 10
    candidates: int = 32
    tracks: int = 4
    steps: int = 300
    alone: int = 300
    rollouts: int = 64
    dream_steps: int = 100


TINY = Sizes(1, 1, 2, 1, 8, 6, 2, 5)


class Bench:
    """Measures the rows; the shipped agent is at work, on its own sample episodes.

    Args:
        sizes: How much is measured.
        scratch: A folder for what is written.
    """

    def __init__(self, sizes: Sizes, scratch: Path) -> None:
        self.sizes, self.scratch = sizes, scratch
        self.world = load_pretrained()
        self.episodes = scratch / "episodes"
        shutil.copytree(self.world.folder / "rollouts", self.episodes)
        self.products = Products()
        self.vae_rate = 0.0  # of training, in frames per second: the yardstick of reading

    def __iter__(self) -> Iterator[Row]:
        yield self.vae_training(CPU, "vae_training", 1.05)
        yield self.vae_encoding(CPU, "vae_encoding", 1.3)
        yield self.mdrnn_training()
        yield self.dream(CPU, "dream", 1.0)
        with OnePerCore() as yardsticks:
            for backend in ("auto", "gymnasium"):
                yield self.agent_evaluation(yardsticks, backend)
                yield self.collection(yardsticks, backend)
        yield self.reading()
        yield self.first_action()
        for name, measured in (
            ("vae_training_gpu", self.vae_training),
            ("vae_encoding_gpu", self.vae_encoding),
            ("dream_gpu", self.dream),
        ):
            unit = "steps/s" if name.startswith("dream") else "frames/s"
            there = torch.cuda.is_available()
            yield measured(GPU, name, None) if there else unmeasured(name, unit)

    def vae_training(self, device: torch.device, name: str, goal: float | None) -> Row:
        """The whole loop of ``train_convae``; the products' turn is after every epoch.

        A single rollout is for training: no frames are held out, whose check would count, too.
        """
        frames = BATCH * self.sizes.batches
        config = WMVAEConfig(
            64, 64, device=device.type, data_dir=str(self.library(1)), epoch_size=frames,
            logdir=tempfile.mkdtemp(dir=self.scratch), train_batch_size=BATCH,
            num_epochs=self.sizes.rounds + 1, sample_interval=1,
        )  # fmt: skip
        history = train_convae(
            config, on_sample=lambda *_: self.products.sample(device), display=False
        )
        value = statistics.median(frames / epoch["seconds"] for epoch in history[1:])
        share = None
        if device == CPU:
            self.vae_rate = value
            anew = replace(config, num_epochs=1, logdir=tempfile.mkdtemp(dir=self.scratch))
            share = share_of_products(lambda: train_convae(anew, display=False))
        return row(name, value, "frames/s", None, goal, device, V_TRAINING, share)

    def vae_encoding(self, device: torch.device, name: str, goal: float | None) -> Row:
        """Batches of frames to mu and log sigma."""
        frames = self.world.rollouts()[0].observations[:BATCH]
        vae, batches = self.world.vae.to(device), self.sizes.batches

        def work() -> float:
            encoded = lambda: [encode(vae, frames, device) for _ in range(batches)]  # noqa: E731
            return rate(len(frames) * batches, encoded, device)

        value = self.products.between(self.sizes.rounds, work, device)
        self.world.vae.cpu()
        return row(name, value, "frames/s", None, goal, device, V_ENCODING)

    def mdrnn_training(self) -> Row:
        """The whole loop of ``train_mdn_rnn``, with its check of a tenth of the rollouts.

        Only the windows that it learns from are counted.
        """
        data = str(self.library(8 * self.sizes.batches))  # some twelve windows each
        places = {"data_dir": data, "logdir": tempfile.mkdtemp(dir=self.scratch)}
        vae_config = WMVAEConfig(64, 64, **places)
        config = WMMDNRNNConfig(
            device="cpu", batch_size=BATCH, seq_len=WINDOW, num_epochs=self.sizes.rounds + 1,
            **places,
        )  # fmt: skip
        history = train_mdn_rnn(
            vae_config,
            config,
            vae=self.world.vae,
            on_sample=lambda *_: self.products.sample(CPU),
            display=False,
        )
        latents = precompute_latents(vae_config, config, self.world.vae, display=False)
        windows = Batches(latent_sets(latents, WINDOW)[0], BATCH).size
        value = statistics.median(windows * WINDOW / epoch["seconds"] for epoch in history[1:])
        anew = replace(config, num_epochs=1, logdir=tempfile.mkdtemp(dir=self.scratch))
        share = share_of_products(
            lambda: train_mdn_rnn(vae_config, anew, vae=self.world.vae, display=False)
        )
        return row("mdrnn_training", value, "steps/s", None, 1.15, CPU, M_TRAINING, share)

    def population(self, candidates: int) -> np.ndarray:
        """The shipped controller, with a search's spread around it (P, n)."""
        mean = flatten_parameters(self.world.controller.parameters())
        return mean + 0.03 * np.random.default_rng(0).normal(size=(candidates, len(mean)))

    def dream(self, device: torch.device, name: str, goal: float | None, rows: int = 1024) -> Row:
        """Candidates and seeds in M's dream, none of which ends early."""
        agent, steps = self.world.agent(device=device.type), self.sizes.dream_steps
        evaluator = DreamEvaluator(
            agent, self.world.rollouts(), time_limit=steps, end_probability=2
        )
        population = self.population(rows // 16)
        value = self.products.between(
            self.sizes.rounds,
            lambda: rate(rows * steps, lambda: evaluator(population, range(16)), device),
            device,
        )
        share = None
        if device == CPU:
            share = share_of_products(lambda: evaluator(population, range(16)))
        return row(name, value, "steps/s", None, goal, device, DREAM, share)

    def generation(self, evaluator: LocalEvaluator, candidates: int, tracks: int) -> float:
        """Steps per second of a generation."""
        began = time.perf_counter()
        scores = evaluator(self.population(candidates), range(tracks))
        return scores.steps / (time.perf_counter() - began)

    def agent_evaluation(self, yardsticks: OnePerCore, backend: str) -> Row:
        """A generation in the world, by the whole batched agent."""
        sizes, agent = self.sizes, self.world.agent(device="cpu")
        evaluator = LocalEvaluator(agent, ENV, backend=backend, time_limit=sizes.steps, patience=60)
        less = 1 if backend == "auto" else 2  # Gymnasium takes several times as long for a step
        value, yardstick = in_turns(
            max(1, sizes.rounds // 2),
            lambda: self.generation(
                evaluator, max(1, sizes.candidates // less), max(1, sizes.tracks // less)
            ),
            lambda: yardsticks.drive(sizes.alone),
        )
        evaluator.close()
        name, goal = self.driven("agent_evaluation", backend, 10)
        return row(name, value, "steps/s", yardstick, goal)

    def driven(self, name: str, backend: str, goal: float) -> tuple[str, float | None]:
        """The row's name and goal; in Gymnasium it is a row of its own, without a goal."""
        return (name, goal) if backend == "auto" else (f"{name}_{backend}", None)

    def collection(self, yardsticks: OnePerCore, backend: str) -> Row:
        """Rollouts resized and written."""
        rollouts = max(1, self.sizes.rollouts // (1 if backend == "auto" else 4))

        def work() -> float:
            began = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                files = generate_rollouts(
                    folder, ENV, rollouts, self.sizes.steps, policy="brownian",
                    backend=backend, display=False,
                )  # fmt: skip
                steps = sum(len(np.load(file)["rewards"]) for file in files)
                return steps / (time.perf_counter() - began)

        rounds, alone = max(1, self.sizes.rounds // 2), self.sizes.alone
        value, yardstick = in_turns(rounds, work, lambda: yardsticks.collect(alone))
        name, goal = self.driven("collection", backend, 8)
        return row(name, value, "steps/s", yardstick, goal)

    def library(self, rollouts: int) -> Path:
        """A folder of so many rollouts: the sample episodes under many names, the longest first."""
        folder = self.scratch / f"library_{rollouts}"
        if folder.exists():
            return folder
        folder.mkdir()
        sources = sorted(rollout_files(self.episodes), key=rollout_length, reverse=True)
        for i in range(rollouts):
            os.link(sources[i % len(sources)], folder / f"rollout_{i:06d}.npz")
        return folder

    def read(self, rollouts: int) -> dict[str, float]:
        """Rate and peak memory of reading that many rollouts."""
        script = Path(__file__).with_name("reading.py")
        command = [sys.executable, str(script), str(self.library(rollouts))]
        return dict(json.loads(subprocess.check_output(command, text=True)))

    def reading(self) -> Row:
        """Shuffled frames from disk, beside the rate at which V consumes them."""
        value = self.read(16 * self.sizes.rounds)["rate"]
        return row("reading", value, "frames/s", self.vae_rate, 3)

    def first_action(self) -> Row:
        """A new process imports wmlib, loads the shipped agent, and acts once."""
        code = (
            "import wmlib, numpy as np\n"
            "agent = wmlib.load_pretrained().agent(device='cpu')\n"
            "agent.start([0])\n"
            "agent(np.zeros((64, 64, 3), dtype=np.uint8))\n"
        )
        command, seconds = [sys.executable, "-c", code], []
        for _ in range(self.sizes.rounds):
            began = time.perf_counter()
            subprocess.run(command, check=True)
            seconds.append(time.perf_counter() - began)
        return row("first_action", statistics.median(seconds), "s", None, 5)
