"""DoomTakeCover, from nothing to the shipped file: an agent that learns only from its dreams.

``python runs/takecover/train.py`` plays blindly, trains V and M, audits M's dream, searches C in it
in several ways, at five temperatures among them, chooses by real games, lets M watch the chosen C's
games and searches once more, tests once, and packs. It goes on where it was stopped, stage by
stage. ``--until STAGE`` ends after one; the stages stand at the end.

Source: Ha & Schmidhuber (2018), section 4.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path += [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]
from blind import Blind as BlindPlayer
from blind import dream_on, plans_of
from dreams import Way, agent_of, evaluator_of

from wmlib.checkpoints import load_checkpoint, read_json, save_checkpoint, write_json
from wmlib.collect import generate_rollouts
from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig
from wmlib.controller import (
    Controller,
    controller_from_state,
    flatten_parameters,
    load_parameters,
)
from wmlib.devices import autocast, choose_device
from wmlib.dream import Dream
from wmlib.envs import ActionMap, TakeCover, episode_seed, make_env
from wmlib.evaluation import summarise
from wmlib.evaluators import play_returns
from wmlib.evolution import train_controller
from wmlib.latents import encode, precompute_latents
from wmlib.mdrnn import MDRNN, MDRNNCell, get_loss, mdrnn_from_state
from wmlib.policies import POLICIES
from wmlib.rollouts import Rollout, read_rollout, rollout_files
from wmlib.training import Fit, train_convae
from wmlib.vae import vae_from_state
from wmlib.vector_envs import make_vector_env
from wmlib.world import WorldModel, round_as_shipped, save_pretrained

ENV = "VizdoomTakeCover-v1"
DATA, LOGDIR = Path("data/takecover"), Path("results/takecover")
OWN = Path("data/takecover-own")  # the chosen agent's games, to look at M by; nothing learns here
PACKED = Path("wmlib/pretrained/takecover")
AGAIN = Path("data/takecover-again")  # its games that M watches, once it has been chosen
LIMIT = 2100  # tics in a game
FIRST, REST = 1200, 2300  # games: V learns from the first, M from all
WALKS = 0.4  # of these games: who walks from side to side lives long, and meets many imps
OWN_GAMES = 400  # the chosen C's, for the round after that; not the paper's experiment any more
LATENTS, HIDDEN = 64, 512
HELD_OUT = 100  # games that M does not learn from
TABLE = tuple(Way(tau) for tau in (0.1, 0.5, 1.0, 1.15, 1.3))
# What dropout is worth, and for comparison what C is without M: these do not ship.
OTHERS = (Way(1.0, dropout=0.05), Way(1.15, "z"), Way(1.15, "h and c of an untrained M"))
ONCE_MORE = (Way(1.0, again=True), Way(1.15, again=True))
GENERATIONS, MORE = 200, 100  # of the searches; of those in the M that knows C's games
# Real games: for the audit and the choice; for the final test, the other temperatures, the blind.
GAMES = {"audit": 50, "select": 100, "test": 1000, "table": 300, "blind": 300, "walk": 300}
GAMES |= {"script": 100, "own": 60}  # the slow one; the chosen agent's, to look at M by
CHUNK = 100  # games written at a time
BACKWARDS = False  # set by the flag of this name

VAE = WMVAEConfig(
    64, 64, latent_size=LATENTS, data_dir=str(DATA / "first"), logdir=str(LOGDIR),
    num_epochs=48, epoch_size=25_000, train_batch_size=100, learning_rate=1e-3,
    kl_tolerance=0.5, nosamples=True,
)  # fmt: skip
# Where the paper's M in Doom differs from its M in CarRacing: a mixture for each latent, the end
# of a game weighted tenfold, no reward. C sees z, h and c.
RNN = WMMDNRNNConfig(
    latent_size=LATENTS, action_size=1, hidden_size=HIDDEN, data_dir=str(DATA), logdir=str(LOGDIR),
    num_epochs=18, learning_rate=1e-3, scheduler_patience=18,
    include_reward=False, mixture="latent", terminal_weight=10.0,
)  # fmt: skip
CTRL = WMControllerConfig(
    latent_size=LATENTS, hidden_size=2 * HIDDEN, action_size=1, env_name=ENV, logdir=str(LOGDIR),
    time_limit=LIMIT, pop_size=24, n_samples=16, num_generations=GENERATIONS, sigma0=0.1,
    evaluator="dream",
    target_return=2000.0,  # a dream in which nobody dies has nothing more to teach
)  # fmt: skip


# ------------------------------------------------------------------------------ V and M learn


def long_held(rng: np.random.Generator, actions: ActionMap, steps: int) -> np.ndarray:
    """Uniform actions (T, A), held for 1 to at most 150 steps; some episodes are all short holds.

    Each episode draws its longest hold, and each hold up to that, uniformly in their logarithms.
    Play that never holds a key for long never sees where that leads, and neither does M.
    """
    longest = rng.uniform(np.log(5), np.log(150))
    change = np.zeros(steps, dtype=np.int64)
    t = 0
    while t < steps:
        change[t] = 1
        t += round(float(np.exp(rng.uniform(0, longest))))
    return POLICIES["random"](rng, actions, int(change.sum())).take(change.cumsum() - 1, axis=0)


POLICIES["long-held"] = long_held


def collect() -> None:
    """Blind random play: keys held for long in some games, walks from side to side in others."""
    for name, count, seed in (("first", FIRST, 2026), ("rest", REST, 2027)):
        player = Blind("long-held or walk")
        generate_rollouts(DATA / name, ENV, count, LIMIT, 1, seed, player, "gymnasium")


def learned(folder: Path) -> bool:
    """Whether a training has come to its end, here or where ``keep`` was called."""
    history = folder / "history.json"
    done = history.exists() and bool(read_json(history, "finished")["finished"])
    return done and (folder / "best.tar").exists()


def see() -> None:
    """V, from the first games."""
    if not learned(LOGDIR / "vae"):
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
        self, latents: dict[str, np.ndarray], games: Sequence[int], steps: int, seed: int,
        shuffle: bool,
    ) -> None:  # fmt: skip
        ends = np.append(latents["episode_starts"], len(latents["latents"]))
        self.seed, self.shuffle = seed, shuffle
        self.rows = [slice(ends[game], ends[game + 1]) for game in games]
        within = list(games)
        self.final = latents["final_latents"][within], latents["final_logsigmas"][within]
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


def remember(config: WMMDNRNNConfig | None = None, more: Path | None = None) -> None:
    """M, from whole games; of the folder ``more`` as well, if there is one, and then from M on."""
    config = config or RNN
    if learned(Path(config.logdir) / "mdrnn"):
        return
    latents = precompute_latents(VAE, RNN)
    count = len(latents["episode_starts"])
    games = [*range(count - HELD_OUT)]
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    mdrnn = MDRNN(LATENTS, config.action_size, HIDDEN, config.gmm_components, config.mixture)
    if more:
        own = precompute_latents(VAE, dataclasses.replace(RNN, data_dir=str(more)))
        games += range(count, count + len(own["episode_starts"]))
        latents = joined(latents, own)
        mdrnn.load_state_dict(load_checkpoint(LOGDIR / "mdrnn" / "best.tar")["state_dict"])
    mdrnn = mdrnn.to(device)
    train = Games(latents, games, 8_000, config.seed, shuffle=True)
    test = Games(latents, range(count - HELD_OUT, count), 8_000, config.seed, shuffle=False)

    def loss(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        z, action, terminal, mask = (part.to(device) for part in batch)
        with autocast(device):
            return get_loss(
                mdrnn, z[:, :-1], action, terminal, terminal, z[:, 1:],
                config.include_reward, LATENTS, config.terminal_weight, mask,
            )  # fmt: skip

    Fit("mdrnn", mdrnn, config, loss, clip=1.0).run(train, test)


def joined(some: dict[str, np.ndarray], more: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The latents of some games and of more, as those of one set."""
    later = {**more, "episode_starts": more["episode_starts"] + len(some["latents"])}
    return {key: np.concatenate([some[key], later[key]]) for key in some}


# ------------------------------------------------------------------------------ is the dream true?


def sweep(period: int) -> np.ndarray:
    """Right for so many tics, left for as many, and again: (T, 1)."""
    return np.where(np.arange(LIMIT) // period % 2 == 0, 1.0, -1.0)[:, None].astype(np.float32)


def walk(seed: int) -> np.ndarray:
    """From side to side, in strides of 50 to 150 tics that are more or less even: (T, 1)."""
    rng = np.random.default_rng([seed, 1])
    stride, uneven = rng.uniform(50, 150), rng.uniform(0, 0.4)
    strides = (stride * rng.normal(1, uneven, LIMIT // 20)).clip(20).astype(int)
    sides = rng.choice([-1, 1]) * (-1.0) ** np.arange(len(strides))
    return np.repeat(sides, strides)[:LIMIT, None].astype(np.float32)


def plans(name: str, seeds: Sequence[int]) -> np.ndarray:
    """What a blind policy does in each of some games: (N, T, 1)."""
    if name == "walk":
        return np.stack([walk(seed) for seed in seeds])
    if name == "long-held or walk":  # the one or the other, by the game's seed
        walks = np.array([np.random.default_rng([seed, 2]).random() < WALKS for seed in seeds])
        return np.where(walks[:, None, None], plans("walk", seeds), plans("long-held", seeds))
    fixed = {
        "no-op": np.zeros((LIMIT, 1), np.float32),
        "right": np.ones((LIMIT, 1), np.float32),
        "left": -np.ones((LIMIT, 1), np.float32),
        "sweep 100": sweep(100),
        "sweep 125": sweep(125),
    }

    def moves() -> list[np.ndarray]:
        return [read_rollout(path).actions for path in rollout_files(OWN)]

    return plans_of(name, seeds, TakeCover.ACTIONS, LIMIT, fixed, moves)


# The sweep of 100 was first asked after the searches, when it was seen what C does.
BLIND = ("no-op", "right", "left", "sweep 125", "held", "long-held", "random", "sweep 100", "walk")


def Blind(name: str) -> BlindPlayer:
    """A blind policy of that name, as ``play_returns`` takes it."""
    return BlindPlayer(functools.partial(plans, name))


def models(again: bool = False) -> tuple[Any, MDRNN]:
    """V and M, rounded as they ship; or the M that has watched C's games as well."""
    paths = LOGDIR / "vae" / "best.tar", m_folder(again) / "mdrnn" / "best.tar"
    v, m = (load_checkpoint(path)["state_dict"] for path in paths)
    vae, mdrnn = vae_from_state(v), mdrnn_from_state(m, LATENTS)
    for model in (vae, mdrnn):
        round_as_shipped(model)
    return vae, mdrnn


def m_folder(again: bool) -> Path:
    """Where M is, before and after C's own games."""
    return LOGDIR / "again" if again else LOGDIR


def first_frames() -> list[Rollout]:
    """Where dreams begin: the first frames of held-out games, with nothing remembered."""
    starts = []
    for path in rollout_files(DATA / "rest")[-HELD_OUT:]:
        game = read_rollout(path)
        columns = game.observations, game.actions, game.rewards, game.terminals
        starts.append(Rollout(*(column[:1] for column in columns)))
    return starts


@torch.inference_mode()
def dreamed(vae: Any, cell: MDRNNCell, plan: np.ndarray, temperature: float) -> np.ndarray:
    """How long games (N, T, 1) last in the dream: (N,)."""
    dream = Dream(vae, cell, first_frames(), temperature, 0, fast=True)
    dream.begin(range(len(plan)))
    moves = torch.from_numpy(plan).to(dream.device)
    return dream_on(dream, lambda t, rows: moves[rows, t], LIMIT)[1]


def live(policy: Any, seeds: Sequence[int]) -> np.ndarray:
    """Tics that a policy survives in the game, a game for each seed: (N,)."""
    with closing(make_vector_env(ENV, len(seeds))) as envs:
        return play_returns(envs, policy, seeds, LIMIT)[0]


def real_games(
    name: str, player: Callable[[Sequence[int]], np.ndarray], purpose: str, count: int
) -> np.ndarray:
    """Tics survived in real games on the seeds of a purpose, kept as they are played: (N,).

    A second process with ``--backwards`` begins with the last ones; the two meet in the middle.
    """
    folder = LOGDIR / "games" / purpose / name.replace(" ", "-")
    parts = [range(first, min(count, first + CHUNK)) for first in range(0, count, CHUNK)]
    paths = {folder / f"{part.start:04}-{part.stop:04}.json": part for part in parts}
    for path in reversed(paths) if BACKWARDS else paths:
        if not path.exists():
            seeds = [episode_seed(purpose, 0, i) for i in paths[path]]
            write_json(path, [float(tics) for tics in player(seeds)])
    return np.concatenate([read_json(path) for path in paths])


def audit(again: bool = False) -> None:
    """Blind policies, dreamed and real, side by side: where they differ, the dream is wrong."""
    path, games = m_folder(again) / "audit.json", GAMES["audit"]
    table: dict[str, Any] = {}
    vae, mdrnn = models(again)
    for name in BLIND:
        real = real_games(name, functools.partial(live, Blind(name)), "select", games)
        row = table[name] = {"real": real.tolist()}
        for temperature in (1.0, 1.15):
            plan = plans(name, [episode_seed("select", 0, i) for i in range(games)])
            row[f"dream {temperature}"] = dreamed(vae, mdrnn.to_cell(), plan, temperature).tolist()
        print(f"{name:10}", {key: f"{np.mean(v):.0f} ± {np.std(v):.0f}" for key, v in row.items()})
    write_json(path, table)


# ------------------------------------------------------------------------------ C dreams


def dream(ways: Sequence[Way] = TABLE + OTHERS) -> None:
    """C, by CMA-ES in dreams only, a search for each way."""
    for way in ways:
        shown = world(way, searched=False)
        agent = agent_of(way, shown)
        start, generations = None, GENERATIONS
        if way.again:  # from where the chosen one stands
            start = flatten_parameters(world(chosen()).controller.parameters())
            generations = MORE
        config = dataclasses.replace(
            CTRL, temperature=way.tau, logdir=str(LOGDIR / way.name), num_generations=generations,
            hidden_size=agent.sees * HIDDEN,
        )  # fmt: skip
        evaluator = evaluator_of(way, agent, shown, first_frames(), LIMIT)
        train_controller(config, agent, evaluator, start)


def once_more() -> None:
    """M watches the chosen C's games, and C dreams on: the round of the paper's section 5.

    From here on V is still of blind play, but M is not: what comes of it is reported by its name.
    """
    agent = player(chosen())
    generate_rollouts(AGAIN, ENV, OWN_GAMES, LIMIT, 16, 2029, agent, "gymnasium")
    own = dataclasses.replace(RNN, logdir=str(m_folder(True)), num_epochs=6, learning_rate=3e-4)
    remember(own, AGAIN)
    audit(again=True)
    dream(ONCE_MORE)


# ------------------------------------------------------------------------------ and in the game?


def world(way: Way, searched: bool = True) -> WorldModel:
    """V, M and the C of that search, its last mean; or a C of zeros, before it."""
    info = {"env_name": ENV, "time_limit": LIMIT, "temperature": way.tau}
    controller = Controller(LATENTS, 2 * HIDDEN, 1)
    if searched:
        path = LOGDIR / way.name / "ctrl" / "checkpoint.tar"
        controller = controller_from_state(load_checkpoint(path)["state_dict"], str(path))
    return WorldModel(*models(way.again), controller, info)


def player(way: Way) -> Any:
    """What plays the game after that search."""
    found = world(way)
    agent = agent_of(way, found)
    load_parameters(flatten_parameters(found.controller.parameters()), agent.controller)
    return agent


def choose(ways: Sequence[Way] = TABLE + OTHERS, name: str = "choice") -> None:
    """Real games on seeds for choosing: which search plays best."""
    table = {}
    for way in ways:
        act = functools.partial(live, player(way))
        table[way.name] = tics = real_games(way.name, act, "select", GAMES["select"])
        print(f"{way.caption}: {tics.mean():.0f} ± {tics.std():.0f} on select seeds")
    write_json(LOGDIR / f"{name}.json", {key: tics.tolist() for key, tics in table.items()})


def chosen() -> Way:
    """The search that did best in the games for choosing, of those that see z, h and c."""
    table = read_json(LOGDIR / "choice.json")
    whole = [way for way in TABLE + OTHERS if way.sees == "z, h and c"]
    return max(whole, key=lambda way: float(np.mean(table[way.name])))


# ------------------------------------------------------------------------------ the record


def dream_score(way: Way, dreams: int = 256) -> dict[str, Any]:
    """What a search's last mean reaches in the dream it learned in, on dreams it never had."""
    agent = player(way)
    evaluator = evaluator_of(way, agent, world(way), first_frames(), LIMIT)
    flat = flatten_parameters(agent.controller.parameters())
    seeds = [episode_seed("evaluate", 0, i) for i in range(dreams)]
    row = summarise(evaluator(flat[None], seeds).returns[0])
    return {"dreams": dreams, "dream_mean": row["mean"], "dream_std": row["std"]}


WALLS, WIDE = (16.0, 752.0), 44.0  # of the room, and how near a fireball may come, in map units
TURNS = itertools.product((6, 14, 28, 90), (1, 0, -1), (1, -1))
KEYS = np.array([[first] * tics + [then] * (90 - tics) for tics, first, then in TURNS])  # (24, 90)


def dodge(seeds: Sequence[int]) -> np.ndarray:
    """Tics that a script survives which knows where every fireball in sight will be: (N,).

    It reads positions and speeds from the game, looks 90 tics ahead under each of some plans of
    one turn, sweeps from wall to wall, and leaves the sweep for the plan that is hit last.
    """
    from vizdoom import GameVariable

    env = make_env(ENV, labels_buffer_enabled=True)
    engine: Any = env.unwrapped
    lengths = []
    for seed in seeds:
        env.reset(seed=int(seed))
        sweep, length, ended = 1, 0, False
        while not ended:
            place = [GameVariable.POSITION_Y, GameVariable.VELOCITY_Y]
            y, speed = map(engine.game.get_game_variable, place)  # to the right, y falls
            if not WALLS[0] + 24 < y < WALLS[1] - 24:
                sweep = -1 if y < 100 else 1
            balls = [label for label in engine.state.labels if label.object_name == "DoomImpBall"]
            hits = _hits(y, speed, balls)
            straight = hits[(sweep == KEYS).all(axis=1)][0]
            best = KEYS[(hits + 0.5 * (KEYS[:, 0] == sweep)).argmax()]
            push = int(best[0]) if hits.max() > straight else sweep
            sweep = push or sweep
            _, _, terminated, truncated, _ = env.step(np.array([push], np.int8))
            length += 1
            ended = terminated or truncated or length == LIMIT
        lengths.append(length)
    env.close()
    return np.array(lengths)


def _hits(y: float, speed: float, balls: Sequence[Any]) -> np.ndarray:
    """When each of ``KEYS`` is hit, in tics from now; 90 if it is not."""
    here, speeds = np.full(len(KEYS), y), np.full(len(KEYS), speed)
    path = np.empty(KEYS.shape)
    for t in range(KEYS.shape[1]):
        speeds += 0.094 * (-7.3 * KEYS[:, t] - speeds)  # the game's friction and top speed
        here = (here + speeds).clip(*WALLS)
        path[:, t] = here
    ahead, first = np.arange(1, KEYS.shape[1] + 1), np.full(len(KEYS), KEYS.shape[1])
    for ball in balls:
        x = ball.object_position_x + ball.object_velocity_x * ahead
        meets = abs(path - ball.object_position_y - ball.object_velocity_y * ahead) < WIDE
        hit = meets & (abs(x + 416) < 34)  # the player walks along x = -416
        first = np.minimum(first, np.where(hit.any(axis=1), hit.argmax(axis=1), KEYS.shape[1]))
    return first


def test() -> None:
    """The final test, on seeds that nothing was chosen by; no game is played a second time."""
    rows: list[dict[str, Any]] = []

    def add(name: str, folder: str, player: Any, games: int, **more: Any) -> None:
        tics = real_games(folder, player, "evaluate", games)
        row = {"agent": name, "env_id": ENV, "backend": "gymnasium", "seed": 0} | summarise(tics)
        row["versions"]["vizdoom"] = version("vizdoom")
        rows.append(row | more)
        print(f"{name}: {row['mean']:.0f} ± {row['std']:.0f} ({games} games)")

    best = chosen()
    for way in sorted(TABLE + OTHERS + ONCE_MORE, key=lambda way: way != best):
        name, games = way.caption, GAMES["table"]
        if way == best:
            name, games = f"{name}, the shipped agent", GAMES["test"]
        # ``tau`` marks the rows of the paper's table.
        more = dream_score(way) | ({"tau": way.tau} if way in (*TABLE, best) else {})
        add(name, way.name, functools.partial(live, player(way)), games, **more)
    for name in ("no-op", "random", "held", "sweep 125", "sweep 100"):
        count = GAMES["walk" if "sweep" in name else "blind"]
        add(f"blind: {name}", name, functools.partial(live, Blind(name)), count)
    own = "blind: the shipped agent's moves of another game"
    add(own, "replayed", functools.partial(live, Blind("replayed")), GAMES["walk"])
    add("a script that reads the fireballs from the game", "script", dodge, GAMES["script"])
    write_json(LOGDIR / "report.json", {"rows": rows})


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
        "recall": float(np.mean([alarm[-1] for alarm in last])) if last else None,
        f"recall within {near}": float(np.mean([a.any() for a in last])) if last else None,
        "alarms": count,
        "precision": float(sum(alarm.sum() for alarm in last)) / max(1, count),
    }


@torch.inference_mode()
def foreseen(vae: Any, mdrnn: MDRNN, game: Rollout) -> np.ndarray:
    """M's P(end) at each step of a real game: (T,)."""
    mu, logsigma = encode(vae, game.observations, torch.device("cpu"))
    torch.manual_seed(0)
    z = mu + logsigma.exp() * torch.randn_like(mu)
    logit = mdrnn(torch.from_numpy(game.actions)[:, None], z[:, None])[4][:, 0]
    return np.asarray(logit.sigmoid())


def diagnose() -> None:
    """M's sense of death, on held-out random play and on the shipped agent's own games."""
    path = LOGDIR / "deaths.json"
    if path.exists():
        return
    vae, mdrnn = models()
    agent = player(chosen())
    generate_rollouts(OWN, ENV, GAMES["own"], LIMIT, 16, 2028, agent, "gymnasium")
    table = {}
    folders = {"held-out random play": DATA / "rest", "the agent's own games": OWN}
    for name, folder in folders.items():
        files = rollout_files(folder)[-HELD_OUT:]
        played = [read_rollout(file) for file in files]
        table[name] = deaths(
            [foreseen(vae, mdrnn, game) for game in played],
            [bool(game.terminals[-1]) for game in played],
        )
        print(name, table[name])
    write_json(path, table)


CARD = """\
# takecover

V, M and C of Ha & Schmidhuber's World Models (2018) for {env}, Doom's TakeCover as the paper played
it; `wmlib.load_pretrained("takecover")` loads them. Made by `python runs/takecover/train.py`. C has
learned in M's dreams alone; V and M from {games:,} games of blind random play.

| | |
|---|---|
| V, a variational autoencoder | {v:,} parameters, {v_epochs} epochs in {v_minutes:.0f} minutes |
| M, a mixture density LSTM | {m:,} parameters, {m_epochs} epochs in {m_minutes:.0f} minutes |
| C, a linear map | {c:,} parameters, {generations} generations in {c_minutes:.0f} minutes |
| hardware | {hardware}, beside other work |
| on disk | V and M in fp16, C in fp32, the report's scores are of these files |

Tics survived, of at most {limit:,}:

| agent | games | mean | standard deviation | in its own dream |
|---|---|---|---|---|
{scores}

Which τ ships was chosen by {select} games each on other seeds. All games of the report are on seeds
that nothing was chosen or trained by; a row of fewer games has the first of them.

## Limits

It has seen one room of one game, at one skill level, in 64×64 pixels. Keeping to a long stride from
side to side, with closed eyes, survives about as long as many a trained agent here: compare with
that row, not with random play.

The pictures are of Freedoom (see LICENSE-text); the game engine is ViZDoom, MIT.
"""


def pack() -> None:
    """V, M and the five C, the records, sample games and a card, as they ship."""
    best = chosen()
    packed = world(best)
    for way in TABLE:
        packed.others[f"tau-{round(100 * way.tau):03d}"] = world(way).controller
    shutil.rmtree(PACKED, ignore_errors=True)
    save_pretrained(PACKED, packed)
    searches = {way.name: None for way in (*TABLE, best)}
    records = ["report.json", "audit.json", "choice.json", "deaths.json"]
    records += ["vae/history.json", "mdrnn/history.json"]
    records += [f"{name}/ctrl/generations.csv" for name in searches]
    for record in records:
        (PACKED / record).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LOGDIR / record, PACKED / record)
    players: dict[str, tuple[Any, int, int]] = {
        "agent": (packed.agent(), 1, 400),
        "random": ("long-held", 2, 600),
    }
    for name, (policy, games, limit) in players.items():
        folder = PACKED / "rollouts" / name
        generate_rollouts(folder, ENV, games, limit, 1, 2018, policy, "gymnasium")
    (PACKED / "README.md").write_text(card(packed), encoding="utf-8")


def card(packed: WorldModel) -> str:
    """What whoever finds the weights should know, from the records beside them."""
    rows = read_json(PACKED / "report.json", "rows")["rows"]
    histories = {stage: PACKED / stage / "history.json" for stage in ("vae", "mdrnn")}
    epochs = {stage: read_json(path, "epochs")["epochs"] for stage, path in histories.items()}
    minutes = {stage: sum(row["seconds"] for row in epochs[stage]) / 60 for stage in epochs}
    search = (PACKED / chosen().name / "ctrl" / "generations.csv").read_text().splitlines()
    last = dict(zip(search[0].split(","), search[-1].split(","), strict=True))
    parts = {"v": packed.vae, "m": packed.mdrnn, "c": packed.controller}
    lines = []
    for row in rows:
        dreamt = f"{row['dream_mean']:.0f} ± {row['dream_std']:.0f}" if "dream_mean" in row else ""
        score = f"{row['mean']:.0f} ± {row['ci95']:.0f} | {row['std']:.0f}"
        lines.append(f"| {row['agent']} | {row['episodes']:,} | {score} | {dreamt} |")
    return CARD.format(
        **{key: sum(p.numel() for p in model.parameters()) for key, model in parts.items()},
        env=ENV, games=FIRST + REST, limit=LIMIT, select=GAMES["select"],
        v_epochs=len(epochs["vae"]), v_minutes=minutes["vae"],
        m_epochs=len(epochs["mdrnn"]), m_minutes=minutes["mdrnn"],
        generations=last["generation"], c_minutes=float(last["seconds"]) / 60,
        hardware=rows[0]["hardware"], scores="\n".join(lines),
    )  # fmt: skip


# ------------------------------------------------------------------------------ elsewhere

STATE = Path(__file__).with_name(
    "state"
)  # enough to go on with on another machine; to be committed
RECORDS = {"search.json", "generations.csv", "history.json", "audit.json", "choice.json",
           "deaths.json", "report.json"}  # fmt: skip


def keep() -> None:
    """What was learned and recorded so far, small: V and M in the precision in which they ship."""
    for path in sorted(path for path in LOGDIR.rglob("*") if path.is_file()):
        name = path.relative_to(LOGDIR)
        if name.match("vae/best.tar") or name.match("mdrnn/best.tar"):
            weights = {k: v.half() for k, v in load_checkpoint(path)["state_dict"].items()}
            save_checkpoint(STATE / name, {"state_dict": weights})
        elif path.name in RECORDS or "games" in name.parts or name.match("ctrl/checkpoint.tar"):
            (STATE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, STATE / name)


def take_up() -> None:
    """Begin where ``keep`` was last called, if nothing has been done here yet."""
    if STATE.exists() and not LOGDIR.exists():
        shutil.copytree(STATE, LOGDIR)


STAGES: dict[str, Callable[[], None]] = {
    "collect": collect,
    "see": see,
    "remember": remember,
    "audit": audit,
    "dream": dream,
    "choose": choose,
    "diagnose": diagnose,
    "once-more": once_more,
    "test": test,
    "pack": pack,
}


def main() -> None:
    """Every stage in turn, or up to one of them."""
    parser = argparse.ArgumentParser(description="DoomTakeCover, from nothing to the shipped file.")
    parser.add_argument("--until", choices=STAGES, default="pack", help="the last stage to run")
    parser.add_argument("--only", choices=STAGES, help="this stage alone")
    ways = {way.name: way for way in TABLE + OTHERS}
    parser.add_argument(
        "--searches", nargs="*", default=list(ways), choices=ways, metavar="NAME",
        help=f"with --only dream: which, where two processes share them; of {', '.join(ways)}",
    )  # fmt: skip
    parser.add_argument(
        "--backwards", action="store_true",
        help="begin with the last games: a second process that shares a stage with the first",
    )  # fmt: skip
    args = parser.parse_args()
    global BACKWARDS
    BACKWARDS = args.backwards
    take_up()
    if args.only == "dream":
        dream([ways[name] for name in args.searches])
        return
    for name, stage in STAGES.items():
        if args.only in (None, name):
            print(f"stage {name}")
            stage()
            keep()
        if name == args.until:
            return


if __name__ == "__main__":
    main()
