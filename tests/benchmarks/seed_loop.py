"""The yardsticks of driving: the reference page's loop, one environment in one process per core."""

import multiprocessing
import os
import tempfile
import time
from typing import Any, Self

import numpy as np
import torch

from wmlib import ActionMap, generate_rollouts, load_pretrained, make_image_env
from wmlib.pixels import frames_to_tensor

ENV = "CarRacing-v3"


class OnePerCore:
    """A process for each core, each with models and an environment of its own."""

    def __init__(self) -> None:
        self.cores = os.cpu_count() or 1

    def __enter__(self) -> Self:
        self.pool = multiprocessing.get_context("spawn").Pool(self.cores, _set_up)
        return self

    def __exit__(self, *error: Any) -> None:
        self.pool.close()
        self.pool.join()

    def drive(self, steps: int) -> float:
        """Steps per second, of all processes together, of the whole agent at batch 1 in fp32."""
        return sum(self.pool.map(_drive, [steps] * self.cores, chunksize=1))

    def collect(self, steps: int) -> float:
        """Steps per second, of all processes together, collected and written."""
        return sum(self.pool.map(_collect, [steps] * self.cores, chunksize=1))


def _set_up() -> None:
    global world, env
    torch.set_num_threads(1)
    os.environ["WMLIB_FAST"] = "0"  # Gymnasium's environment as it comes
    world, env = load_pretrained(), make_image_env(ENV)


@torch.no_grad()
def _drive(steps: int) -> float:
    """The page's loop; making the track is not counted."""
    action_map = ActionMap(env.action_space)
    vae, cell, controller = world.vae, world.cell, world.controller
    observation, _ = env.reset(seed=os.getpid())
    hidden = cell.get_init_hidden(1)
    began = time.perf_counter()
    for _ in range(steps):
        mu, logsigma = vae.encoder(frames_to_tensor(observation[None]))
        z = mu + logsigma.exp() * torch.randn_like(mu)
        action = action_map(controller(z, hidden[0]))
        observation, _, terminated, truncated, _ = env.step(action_map.to_env(action.numpy())[0])
        *_, hidden = cell(action, z, hidden)
        if terminated or truncated:
            observation, _ = env.reset()
    return steps / (time.perf_counter() - began)


def _collect(steps: int) -> float:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        options = {"num_workers": 1, "backend": "gymnasium", "display": False}
        (file,) = generate_rollouts(folder, ENV, 1, steps, policy="brownian", **options)
        with np.load(file) as archive:
            count = len(archive["rewards"])
    return count / (time.perf_counter() - began)
