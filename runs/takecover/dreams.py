"""The dream beside the game: how long it lasts, and when M feels death near."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from recipe import DATA, HELD_OUT, LIMIT

from wmlib.agent import Agent
from wmlib.controller import flatten_parameters
from wmlib.dream import Dream
from wmlib.envs import episode_seed
from wmlib.evaluation import summarise
from wmlib.evaluators import DreamEvaluator
from wmlib.latents import encode
from wmlib.mdrnn import MDRNN, MDRNNCell
from wmlib.rollouts import Rollout, read_rollout, rollout_files
from wmlib.vae import ConvVAE, sample_latent


def first_frames() -> list[Rollout]:
    """Where dreams begin: the first frames of held-out games, with nothing remembered."""
    starts = []
    for path in rollout_files(DATA / "rest")[-HELD_OUT:]:
        game = read_rollout(path)
        told = game.actions[:1], game.rewards[:1], game.terminals[:1]
        starts.append(Rollout(game.observations[:1], *told))
    return starts


def dream_evaluator(agent: Agent, temperature: float) -> DreamEvaluator:
    """What C is searched by: tics survived in the dream, from games' first frames on."""
    return DreamEvaluator(agent, first_frames(), temperature, 0, LIMIT, living_reward=1.0)


def dream_score(agent: Agent, temperature: float, dreams: int = 256) -> dict[str, Any]:
    """What C reaches in the dream it learned in, on dreams it never had."""
    flat = flatten_parameters(agent.controller.parameters())
    seeds = [episode_seed("evaluate", 0, i) for i in range(dreams)]
    row = summarise(dream_evaluator(agent, temperature)(flat[None], seeds).returns[0])
    return {"dreams": dreams, "dream_mean": row["mean"], "dream_std": row["std"]}


@torch.inference_mode()
def dreamed(vae: ConvVAE, cell: MDRNNCell, plan: np.ndarray, temperature: float) -> np.ndarray:
    """How long games (N, T, 1) last in the dream: (N,)."""
    dream = Dream(vae, cell, first_frames(), temperature, 0, fast=True)
    dream.begin(range(len(plan)))
    lengths, rows = np.full(len(plan), LIMIT), np.arange(len(plan))
    for t in range(LIMIT):
        _, _, end = dream.step(torch.from_numpy(plan[rows, t]))
        going = (end < 0.5).numpy()
        lengths[rows[~going]] = t + 1
        dream.keep(torch.from_numpy(going))
        rows = rows[going]
        if not len(rows):
            break
    return lengths


@torch.inference_mode()
def foreseen(vae: ConvVAE, mdrnn: MDRNN, game: Rollout) -> np.ndarray:
    """M's P(end) at each step of a real game: (T,)."""
    mu, logsigma = encode(vae, game.observations, torch.device("cpu"))
    torch.manual_seed(0)
    z = sample_latent(mu, logsigma)
    logit = mdrnn(torch.from_numpy(game.actions)[:, None], z[:, None])[4][:, 0]
    return np.asarray(logit.sigmoid())


def deaths(
    probabilities: Sequence[np.ndarray], ended: Sequence[bool], near: int = 10
) -> dict[str, Any]:
    """How many deaths M's alarm (P ≥ ½) catches, and how many alarms are near one.

    Args:
        probabilities: M's P(end) at each step of some games.
        ended: Which of the games a death ended.
        near: Tics before a death within which an alarm is right.
    """
    alarms = [p >= 0.5 for p in probabilities]
    last = [alarm[-near:] for alarm, death in zip(alarms, ended, strict=True) if death]
    count = int(np.concatenate(alarms).sum())
    return {
        "games": len(alarms),
        "steps": sum(map(len, alarms)),
        "deaths": len(last),
        "recall": float(np.mean([alarm[-1] for alarm in last])),
        f"recall within {near}": float(np.mean([alarm.any() for alarm in last])),
        "alarms": count,
        "precision": float(np.concatenate(last).sum()) / max(1, count),
    }
