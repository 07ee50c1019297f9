"""DoomTakeCover, from nothing to the shipped file: an agent that learns only from its dreams.

``python runs/takecover/train.py`` plays at random, trains V and M, audits M's dream, searches C in
it at five temperatures, chooses among them by real games, tests once, and packs. It goes on where
it was stopped, stage by stage. ``--until STAGE`` ends after one; the stages stand at the end.

Source: Ha & Schmidhuber (2018), section 4.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wmlib.agent import Agent
from wmlib.batches import epoch_seed
from wmlib.checkpoints import load_checkpoint, read_json, write_json
from wmlib.collect import generate_rollouts, play
from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig
from wmlib.controller import load_parameters
from wmlib.devices import autocast, choose_device
from wmlib.dream import Dream
from wmlib.envs import TakeCover, episode_seed
from wmlib.evaluation import evaluate, summarise
from wmlib.evolution import train_controller
from wmlib.fitness import play_returns
from wmlib.latents import precompute_latents
from wmlib.loop import fit
from wmlib.mdrnn import MDRNN, MDRNNCell, get_loss, mdrnn_from_state
from wmlib.policies import make_policy
from wmlib.pretrained import (
    WorldModel,
    controller_from_state,
    load_agent,
    load_untrained,
    save_pretrained,
)
from wmlib.rehearsal import DreamEvaluator
from wmlib.rollouts import Rollout, read_rollout, rollout_files
from wmlib.training import train_convae
from wmlib.vae import vae_from_state
from wmlib.vector_envs import make_vector_env

ENV = "VizdoomTakeCover-v1"
DATA, LOGDIR = Path("data/takecover"), Path("results/takecover")
PACKED = Path("wmlib/pretrained/takecover")
LIMIT = 2100  # tics in a game
FIRST, REST = 800, 1800  # games: V learns from the first, M from all
LATENTS, HIDDEN = 64, 512
TEMPERATURES = (0.1, 0.5, 1.0, 1.15, 1.3)
GENERATIONS = 40
GAMES = {"select": 100, "table": 300, "test": 1000}  # real games: choice, τ table, final test

VAE = WMVAEConfig(
    64, 64, latent_size=LATENTS, data_dir=str(DATA / "first"), logdir=str(LOGDIR),
    num_epochs=24, epoch_size=25_000, train_batch_size=100, learning_rate=1e-3, schedule="cosine",
    num_test_files=20, kl_tolerance=0.5, nosamples=True,
)  # fmt: skip
# Where the paper's M in Doom differs from its M in CarRacing: a mixture for each latent, the end
# of a game weighted tenfold, no reward. C sees z, h and c.
RNN = WMMDNRNNConfig(
    latent_size=LATENTS, action_size=1, hidden_size=HIDDEN, data_dir=str(DATA), logdir=str(LOGDIR),
    num_epochs=24, learning_rate=1e-3, optimizer="adam", schedule="cosine",
    num_test_files=100, include_reward=False, mixture="latent", terminal_weight=10.0,
    nosamples=True,
)  # fmt: skip
CTRL = WMControllerConfig(
    latent_size=LATENTS, hidden_size=2 * HIDDEN, action_size=1, env_name=ENV, logdir=str(LOGDIR),
    time_limit=LIMIT, pop_size=24, n_samples=8, num_generations=GENERATIONS, sigma0=0.1,
    eval_interval=10, eval_episodes=64, evaluator="dream", target_return=float(LIMIT),
)  # fmt: skip


# ------------------------------------------------------------------------------ V and M learn


def collect() -> None:
    """Blind random play, with keys held for long in some games."""
    for name, count, seed in (("first", FIRST, 2026), ("rest", REST, 2027)):
        generate_rollouts(DATA / name, ENV, count, LIMIT, 1, seed, "long-held", "gymnasium")


def see() -> None:
    """V, from the first games."""
    train_convae(VAE)


class Games:
    """Whole games for M, those of like length side by side, each from its first frame on.

    Wounds are not to be seen in a frame: how many hits a player took, M must remember from the
    game's beginning. So no window is cut out of the middle.

    Args:
        latents: What ``precompute_latents`` gives.
        games: Which of them.
        steps: About how many steps a batch has.
        seed: Seed of order and noise.
        shuffle: Draw order and noise afresh in every epoch.
    """

    def __init__(
        self, latents: dict[str, np.ndarray], games: range, steps: int, seed: int, shuffle: bool
    ) -> None:
        ends = np.append(latents["episode_starts"], len(latents["latents"]))
        self.seed, self.shuffle = seed, shuffle
        self.rows = [slice(ends[game], ends[game + 1]) for game in games]
        self.final = [latents[f"final_{key}"][games.start : games.stop] for key in ("latents", "logsigmas")]
        self.latents = latents
        order = sorted(range(len(self.rows)), key=lambda game: self.length(game))
        self.groups: list[list[int]] = [[]]
        for game in order:
            if self.groups[-1] and (len(self.groups[-1]) + 1) * self.length(game) > steps:
                self.groups.append([])
            self.groups[-1].append(game)

    def length(self, game: int) -> int:
        """Steps in a game."""
        return int(self.rows[game].stop - self.rows[game].start)

    def __len__(self) -> int:
        return len(self.groups)

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Padded z (B, T + 1, L), actions (B, T, 1), terminals and mask (B, T)."""
        rng = np.random.default_rng([self.seed, epoch if self.shuffle else 0])
        for number in rng.permutation(len(self.groups)) if self.shuffle else range(len(self)):
            yield self.batch(self.groups[number], rng)

    def batch(self, games: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, ...]:
        """See above, for some games."""
        count, longest = len(games), max(map(self.length, games))
        z = np.zeros((count, longest + 1, LATENTS), np.float32)
        action = np.zeros((count, longest, 1), np.float32)
        terminal, mask = np.zeros((2, count, longest), np.float32)
        for row, game in enumerate(games):
            rows, steps = self.rows[game], self.length(game)
            mu, logsigma = (
                np.concatenate([self.latents[key][rows], final[game][None]])
                for key, final in zip(("latents", "logsigmas"), self.final, strict=True)
            )
            noise = rng.standard_normal(mu.shape, dtype=np.float32)
            z[row, : steps + 1] = mu + np.exp(logsigma) * noise
            action[row, :steps] = self.latents["actions"][rows]
            terminal[row, :steps] = self.latents["terminals"][rows]
            mask[row, :steps] = 1
        return tuple(map(torch.from_numpy, (z, action, terminal, mask)))


def remember() -> None:
    """M, from whole games."""
    latents = precompute_latents(VAE, RNN)
    count = len(latents["episode_starts"])
    held_out = count - RNN.num_test_files
    train = Games(latents, range(held_out), 8_000, RNN.seed, shuffle=True)
    test = Games(latents, range(held_out, count), 8_000, RNN.seed, shuffle=False)
    device = choose_device(RNN.device)
    torch.manual_seed(RNN.seed)
    mdrnn = MDRNN(LATENTS, RNN.action_size, HIDDEN, RNN.gmm_components, RNN.mixture).to(device)

    def loss(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        z, action, terminal, mask = (part.to(device) for part in batch)
        with autocast(device, RNN.amp):
            return get_loss(
                mdrnn, z[:, :-1], action, terminal, terminal, z[:, 1:],
                RNN.include_reward, LATENTS, RNN.terminal_weight, mask,
            )  # fmt: skip

    optimizer = torch.optim.Adam(mdrnn.parameters(), lr=RNN.learning_rate, fused=True)
    fit("mdrnn", mdrnn, optimizer, RNN, loss, train, test)


# ------------------------------------------------------------------------------ is the dream true?


def sweep(period: int) -> np.ndarray:
    """Right for so many tics, left for as many, and again: (T, 1)."""
    return np.where(np.arange(LIMIT) // period % 2 == 0, 1.0, -1.0)[:, None].astype(np.float32)


def plans(name: str, seeds: Sequence[int]) -> np.ndarray:
    """What a blind policy does in each of some games: (N, T, 1)."""
    fixed = {
        "no-op": np.zeros((LIMIT, 1), np.float32),
        "right": np.ones((LIMIT, 1), np.float32),
        "left": -np.ones((LIMIT, 1), np.float32),
        "sweep 125": sweep(125),
    }
    if name in fixed:
        return np.repeat(fixed[name][None], len(seeds), axis=0)
    policy = make_policy(name, TakeCover.ACTIONS, LIMIT)
    policy.start(seeds)
    frames, rows = np.zeros(len(seeds)), np.arange(len(seeds))
    return np.stack([policy.act(frames, rows) for _ in range(LIMIT)], axis=1)


BLIND = ("no-op", "right", "left", "sweep 125", "held", "long-held", "random")


class Blind:
    """A blind policy of that name, as ``evaluate`` takes it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, seeds: Sequence[int]) -> None:
        """Begin a game for each seed."""
        self.plans, self.t = plans(self.name, seeds), 0

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Actions (n, 1), without a look at the frames."""
        self.t += 1
        return self.plans[rows, self.t - 1]


def models() -> tuple[Any, MDRNN]:
    """V and M, rounded as they ship."""
    vae, state = (load_checkpoint(LOGDIR / stage / "best.tar")["state_dict"] for stage in ("vae", "mdrnn"))
    v = vae_from_state(vae)
    m = mdrnn_from_state(state, LATENTS)
    return v.half().float(), m.half().float()


def first_frames() -> list[Rollout]:
    """Where dreams begin: the first frames of held-out games, with nothing remembered."""
    starts = []
    for path in rollout_files(DATA / "rest")[-RNN.num_test_files :]:
        game = read_rollout(path)
        one = {key: getattr(game, key)[:1] for key in ("observations", "actions", "rewards", "terminals")}
        starts.append(Rollout(**one))
    return starts


@torch.inference_mode()
def dreamed(vae: Any, cell: MDRNNCell, plan: np.ndarray, temperature: float) -> np.ndarray:
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


def audit(games: int = 100) -> None:
    """Blind policies, dreamed and real, side by side: where they differ, the dream is wrong."""
    path = LOGDIR / "audit.json"
    table: dict[str, Any] = read_json(path) if path.exists() else {}
    vae, mdrnn = models()
    seeds = [episode_seed("select", 0, i) for i in range(games)]
    for name in BLIND:
        row = table.setdefault(name, {})
        if "real" not in row:
            envs = make_vector_env(ENV, games)
            try:
                parts = [
                    play_returns(envs, Blind(name), wave.tolist(), LIMIT)[0]
                    for wave in np.array_split(np.array(seeds), -(-games // envs.rows))
                ]
            finally:
                envs.close()
            row["real"] = np.concatenate(parts).tolist()
        for temperature in (1.0, 1.15):
            key = f"dream {temperature}"
            if key not in row:
                row[key] = dreamed(vae, mdrnn.to_cell(), plans(name, seeds), temperature).tolist()
        write_json(path, table)
        print(f"{name:10}", {key: f"{np.mean(v):.0f} ± {np.std(v):.0f}" for key, v in row.items()})


# ------------------------------------------------------------------------------ C dreams


def search_name(temperature: float) -> str:
    """Folder of C's search at a temperature."""
    return f"ctrl-{temperature:g}"


def dream(temperatures: Sequence[float] = TEMPERATURES) -> None:
    """C, by CMA-ES in dreams only, a search for each temperature."""
    starts = first_frames()
    for temperature in temperatures:
        config = dataclasses.replace(CTRL, temperature=temperature, name=search_name(temperature))
        agent = load_agent(config)
        evaluator = DreamEvaluator(
            agent, starts, temperature, burn_in=0, time_limit=LIMIT, living_reward=1.0
        )
        train_controller(config, agent, evaluator)


# ------------------------------------------------------------------------------ and in the game?


def world(temperature: float) -> WorldModel:
    """V, M and the C of that search, its last mean."""
    path = LOGDIR / search_name(temperature) / "checkpoint.tar"
    controller = controller_from_state(load_checkpoint(path)["state_dict"], str(path))
    info = {"env_name": ENV, "time_limit": LIMIT, "temperature": temperature}
    return WorldModel(*models(), {"shipped": controller}, info)


def real_games(agent: Agent, purpose: str, count: int, seed: int = 0) -> np.ndarray:
    """Tics that an agent survives in some real games: (N,)."""
    envs = make_vector_env(ENV, count)
    seeds = np.array([episode_seed(purpose, seed, i) for i in range(count)])
    try:
        waves = np.array_split(seeds, -(-count // envs.rows))
        parts = [play_returns(envs, agent, wave.tolist(), LIMIT)[0] for wave in waves]
    finally:
        envs.close()
    return np.concatenate(parts)


def choose() -> None:
    """Real games on seeds for choosing: which search plays best, and with z sampled or not."""
    path = LOGDIR / "choice.json"
    table: dict[str, list[float]] = read_json(path) if path.exists() else {}
    for temperature in TEMPERATURES:
        key = f"{temperature:g}"
        if key not in table:
            table[key] = real_games(world(temperature).agent(), "select", GAMES["select"]).tolist()
            write_json(path, table)
        print(f"τ = {key}: {np.mean(table[key]):.0f} ± {np.std(table[key]):.0f} on select seeds")


def chosen() -> float:
    """The temperature whose search did best in the games for choosing."""
    table = read_json(LOGDIR / "choice.json")
    return float(max(table, key=lambda key: np.mean(table[key])))


# ------------------------------------------------------------------------------ the record


def dream_score(temperature: float, dreams: int = 256) -> dict[str, float]:
    """What a search's last mean reaches in the dream it learned in, on dreams it never had."""
    agent = world(temperature).agent()
    evaluator = DreamEvaluator(
        agent, first_frames(), temperature, burn_in=0, time_limit=LIMIT, living_reward=1.0
    )
    flat = flatten_parameters(agent.controller.parameters())
    seeds = [episode_seed("evaluate", 0, i) for i in range(dreams)]
    returns = evaluator(flat[None], seeds).returns[0]
    return {"dream_mean": round(float(returns.mean()), 3), "dream_std": round(float(returns.std(ddof=1)), 3)}


def test() -> None:
    """The final test, on seeds that nothing was chosen by; a row that stands is not driven again."""
    path, best = LOGDIR / "report.json", chosen()
    rows: list[dict[str, Any]] = read_json(path, "rows")["rows"] if path.exists() else []
    there = {row["agent"] for row in rows}

    def add(name: str, policy: Any, games: int, **more: Any) -> None:
        if name in there:
            return
        began = time.perf_counter()
        row = evaluate(policy, ENV, games, 0, LIMIT, name=name)
        row["versions"]["vizdoom"] = version("vizdoom")
        rows.append(row | more | {"seconds": round(time.perf_counter() - began, 1)})
        write_json(path, {"rows": rows})
        print(f"{name}: {row['mean']:.0f} ± {row['std']:.0f} ({games} games)")

    shipped = f"V + M, C from dreams at τ = {best:g}, the shipped agent"
    add(shipped, world(best).agent(), GAMES["test"], tau=best, **dream_score(best))
    for temperature in TEMPERATURES:
        if temperature != best:
            name = f"V + M, C from dreams at τ = {temperature:g}"
            more = {"tau": temperature, **dream_score(temperature)}
            add(name, world(temperature).agent(), GAMES["table"], **more)
    for name in ("no-op", "random", "held", "sweep 125"):
        add(f"blind: {name}", Blind(name), GAMES["table"])
    add("reads the game's labels", Dodger(), GAMES["table"])


def deaths(probabilities: Sequence[np.ndarray], ended: Sequence[bool], near: int = 10) -> dict[str, Any]:
    """How many deaths M's alarm (P ≥ ½) catches, and how many alarms are near one.

    Args:
        probabilities: M's P(end) at each step of some games.
        ended: Which of the games a death ended.
        near: Tics before a death within which an alarm is right.
    """
    caught = [p[-1] >= 0.5 for p, e in zip(probabilities, ended, strict=True) if e]
    soon = [(p[-near:] >= 0.5).any() for p, e in zip(probabilities, ended, strict=True) if e]
    alarms = sum(int((p >= 0.5).sum()) for p in probabilities)
    right = sum(int((p[-near:] >= 0.5).sum()) for p, e in zip(probabilities, ended, strict=True) if e)
    return {
        "games": len(probabilities), "steps": sum(map(len, probabilities)), "deaths": len(caught),
        "recall": float(np.mean(caught)), f"recall within {near}": float(np.mean(soon)),
        "alarms": alarms, "precision": right / max(1, alarms),
    }  # fmt: skip


@torch.inference_mode()
def foreseen(vae: Any, mdrnn: MDRNN, game: Rollout) -> np.ndarray:
    """M's P(end) at each step of a real game: (T,)."""
    mu, logsigma = encode(vae, game.observations, torch.device("cpu"))
    torch.manual_seed(0)
    z = mu + logsigma.exp() * torch.randn_like(mu)
    logit = mdrnn(torch.from_numpy(game.actions)[:, None], z[:, None])[4][:, 0]
    return np.asarray(logit.sigmoid())


def diagnose(games: int = 60) -> None:
    """M's sense of death, on held-out random play and on the shipped agent's own games."""
    path = LOGDIR / "deaths.json"
    if path.exists():
        return
    vae, mdrnn = models()
    own = DATA.with_name("takecover-own")
    agent = world(chosen()).agent()
    generate_rollouts(own, ENV, games, LIMIT, 16, 2028, agent, "gymnasium")
    table = {}
    for name, folder in {"held-out random play": DATA / "rest", "the agent's own games": own}.items():
        files = rollout_files(folder)[-RNN.num_test_files :]
        played = [read_rollout(file) for file in files]
        table[name] = deaths(
            [foreseen(vae, mdrnn, game) for game in played],
            [bool(game.terminals[-1]) for game in played],
        )
        print(name, table[name])
    write_json(path, table)
