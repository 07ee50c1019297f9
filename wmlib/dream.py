"""M dressed as an environment."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from wmlib.agent import Noise
from wmlib.devices import choose_device, quicken
from wmlib.envs import TIME_LIMIT, ActionMap
from wmlib.latents import encode
from wmlib.mdrnn import MDRNNCell
from wmlib.mixture import sample_gmm
from wmlib.pixels import tensor_to_frames
from wmlib.rollouts import Rollout


class Dream:
    """Many dreams side by side: M predicts, a sample becomes the next z.

    A dream starts where a real episode was: at a random step of one of ``rollouts``, with the
    (h, c) that ``burn_in`` real steps before it lead to. Each has a seed and a stream of ``Noise``.

    Args:
        vae: V, which encodes where dreams start and draws what they look like.
        cell: M, one step at a time.
        rollouts: Real episodes to start from.
        temperature: τ of the sampling.
        burn_in: Real steps that M sees first.
        device: Where to compute.
        fast: For thousands of rows: see ``quicken``. Otherwise M's own cell in float32.

    Attributes ``z`` (N, L) and ``hidden``, (h, c), each (N, H), are where the dreams are.

    Source: Ha & Schmidhuber (2018), section 4.
    """

    def __init__(
        self,
        vae: nn.Module,
        cell: MDRNNCell,
        rollouts: list[Rollout],
        temperature: float = 1.0,
        burn_in: int = 30,
        device: str = "cuda",
        fast: bool = False,
    ) -> None:
        if not rollouts:
            raise ValueError("a dream starts from real frames: give at least one rollout")
        self.device = choose_device(device)
        self.vae, self.cell = quicken(vae.to(self.device).eval()), cell.to(self.device).eval()
        self.cell = quicken(self.cell) if fast else self.cell
        self.temperature, self.burn_in = temperature, burn_in
        steps, longest = burn_in + 1, max(len(rollout) for rollout in rollouts)
        if longest < steps:
            raise ValueError(f"burn_in {burn_in} wants {steps} steps, the longest has {longest}")
        self.starts: list[tuple[Tensor, Tensor]] = []
        for rollout in rollouts:
            if len(rollout) >= steps:
                mu, _ = encode(self.vae, rollout.observations, self.device)
                self.starts.append((mu, torch.from_numpy(rollout.actions)))

    def reset(self, count: int, seed: int = 0) -> Tensor:
        """Begin ``count`` dreams, with the seeds from ``seed`` on; z (count, L)."""
        return self.begin(range(seed, seed + count))

    def begin(self, seeds: Sequence[int]) -> Tensor:
        """Begin a dream for each seed, which chooses the real moment and all noise; z (N, L)."""
        moments = []
        for seed in seeds:
            rng = np.random.default_rng([seed, 1])
            episode = int(rng.integers(len(self.starts)))
            moments.append((episode, int(rng.integers(self.burn_in, len(self.starts[episode][1])))))
        return self.begin_at(moments, seeds)

    @torch.inference_mode()
    def begin_at(
        self, moments: Sequence[tuple[int, int]], seeds: Sequence[int] | None = None
    ) -> Tensor:
        """Begin a dream at each ``(rollout, step)``, with seeds 0, 1, … by default; z (N, L)."""
        at = [(*self.starts[episode], step - self.burn_in, step) for episode, step in moments]
        z = torch.stack([mu[first:step] for mu, _, first, step in at])  # (N, burn_in, L)
        a = torch.stack([told[first:step] for _, told, first, step in at])  # (N, burn_in, A)
        self.hidden = self.cell.watch(a.to(self.device), z.to(self.device))  # (N, H) each
        self.z = torch.stack([mu[step] for mu, _, _, step in at]).to(self.device)
        weights = self.cell.gaussians * (self.cell.latents if self.cell.mixture == "latent" else 1)
        sizes = {"standard_exponential": weights, "standard_normal": self.cell.latents}
        self.noise = Noise(range(len(moments)) if seeds is None else seeds, self.device, **sizes)
        self.streams = torch.arange(len(moments), device=self.device)
        return self.z

    @torch.inference_mode()
    def step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of every dream, by the told actions (N, A).

        Returns the next z (N, L), predicted rewards (N,) and probabilities (N,) of the end here.
        """
        # (N, K, L) twice, (N, K), (N,) twice, and (h, c), each (N, H)
        mus, sigmas, logpi, reward, done, self.hidden = self.cell(action, self.z, self.hidden)
        exponential, normal = self.noise.draw(self.streams)  # (N, K) or (N, K · L), and (N, L)
        noise = exponential.view_as(logpi), normal
        self.z = sample_gmm(mus, sigmas, logpi, self.temperature, noise=noise)
        return self.z, reward, done.sigmoid()

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only: a mask (N,), or indices, which may come several times."""
        self.z, self.streams = self.z[rows], self.streams[rows]
        self.hidden = (self.hidden[0][rows], self.hidden[1][rows])

    @torch.inference_mode()
    def frames(self) -> np.ndarray:
        """What the dreams look like: (N, 64, 64, 3) uint8, by V's decoder."""
        return tensor_to_frames(self.vae.decoder(self.z))  # type: ignore[operator]


class DreamEnv(gym.Env[np.ndarray, Any]):
    """One dream with an environment's manners; observations are z (L,).

    Args:
        vae, cell, rollouts, temperature, burn_in, device: See ``Dream``.
        space: The action space of the environment that M dreams of.
        time_limit: Steps after which the dream is truncated.
        end_probability: The dream terminates when M gives the end at least this probability.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012

    def __init__(
        self,
        vae: nn.Module,
        cell: MDRNNCell,
        rollouts: list[Rollout],
        space: gym.Space[Any],
        temperature: float = 1.0,
        burn_in: int = 30,
        device: str = "cuda",
        time_limit: int = TIME_LIMIT,
        end_probability: float = 0.5,
        render_mode: str | None = "rgb_array",
    ) -> None:
        self.dream = Dream(vae, cell, rollouts, temperature, burn_in, device)
        self.action_map, self.action_space, self.render_mode = ActionMap(space), space, render_mode
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (cell.latents,), np.float32)
        self.time_limit, self.end_probability = time_limit, end_probability

    @property
    def hidden(self) -> tuple[Tensor, Tensor]:
        """(h, c), each (1, H)."""
        return self.dream.hidden

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin at a real moment. ``options={"moment": (rollout, step)}`` chooses which."""
        super().reset(seed=seed)
        self.t = 0
        own, moment = [int(self.np_random.integers(2**31))], (options or {}).get("moment")
        z = self.dream.begin_at([moment], own) if moment else self.dream.begin(own)
        return z[0].cpu().numpy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; the reward is the one M predicts."""
        told = torch.from_numpy(self.action_map.from_env(np.asarray(action)[None]))
        z, reward, end = self.dream.step(told.to(self.dream.device))
        self.t += 1
        terminated = bool(end[0] >= self.end_probability)
        truncated = self.t >= self.time_limit and not terminated
        info = {"end_probability": float(end[0])}
        return z[0].cpu().numpy(), float(reward[0]), terminated, truncated, info

    def render(self) -> np.ndarray:
        """The frame (64, 64, 3) that V sees in z."""
        return self.dream.frames().squeeze(0)
