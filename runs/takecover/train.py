"""DoomTakeCover, from nothing to the shipped file: an agent that learns only from its dreams.

``python runs/takecover/train.py`` plays at random, trains V and M, audits M's dream, searches C in
it at five temperatures, chooses among them by real games, tests once, and packs. It goes on where
it was stopped, stage by stage. ``--until STAGE`` ends after one, ``--only STAGE`` does one.

Source: Ha & Schmidhuber (2018), section 4.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from blind import BLIND, Blind, plans
from dodge import dodge
from dreams import deaths, dream_evaluator, dream_score, dreamed, foreseen
from memory import Games, Slowed
from pack import pack
from recipe import (
    CTRL,
    DATA,
    ENV,
    FIRST,
    GAMES,
    HELD_OUT,
    LATENTS,
    LIMIT,
    LOGDIR,
    OWN,
    REST,
    RNN,
    TEMPERATURES,
    VAE,
    search_name,
)
from torch import Tensor

from wmlib.agent import Agent
from wmlib.checkpoints import load_checkpoint, read_json, write_json
from wmlib.collect import generate_rollouts
from wmlib.controller import controller_from_state
from wmlib.devices import autocast, choose_device
from wmlib.envs import episode_seed
from wmlib.evaluation import summarise
from wmlib.evaluators import play_returns
from wmlib.evolution import train_controller
from wmlib.latents import precompute_latents
from wmlib.mdrnn import MDRNN, get_loss
from wmlib.rollouts import read_rollout, rollout_files
from wmlib.training import train_convae
from wmlib.vector_envs import make_vector_env
from wmlib.world import WorldModel, load_agent, load_v_and_m

CHUNK = 100  # games written at a time


@dataclass
class TakeCover:
    """The stages of the run, in order.

    Attributes:
        temperatures: The searches to see to, where two processes share them.
        backwards: Begin with the last games: a second process that shares a stage with the first.
    """

    temperatures: Sequence[float] = TEMPERATURES
    backwards: bool = False

    def __post_init__(self) -> None:
        self.stages: dict[str, Callable[[], None]] = {
            "collect": self.collect,
            "see": self.see,
            "remember": self.remember,
            "audit": self.audit,
            "dream": self.dream,
            "choose": self.choose,
            "diagnose": self.diagnose,
            "test": self.test,
            "pack": self.pack,
        }

    def collect(self) -> None:
        """Blind random play, with keys held for long in some games."""
        policy = Blind("long-held")
        for name, count, seed in (("first", FIRST, 2026), ("rest", REST, 2027)):
            generate_rollouts(DATA / name, ENV, count, LIMIT, 1, seed, policy, "gymnasium")

    def see(self) -> None:
        """V, from the first games."""
        train_convae(VAE)

    def remember(self) -> None:
        """M, from whole games."""
        latents = precompute_latents(VAE, RNN)
        count = len(latents["episode_starts"])
        held_out = count - HELD_OUT
        train: Any = Games(latents, range(held_out), 8_000, RNN.seed, shuffle=True)
        test: Any = Games(latents, range(held_out, count), 8_000, RNN.seed, shuffle=False)
        device = choose_device(RNN.device)
        torch.manual_seed(RNN.seed)
        sizes = LATENTS, RNN.action_size, RNN.hidden_size, RNN.gmm_components
        mdrnn = MDRNN(*sizes, RNN.mixture).to(device)
        options = RNN.include_reward, LATENTS, RNN.terminal_weight

        def loss(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
            z, action, end, mask = (part.to(device) for part in batch)
            with autocast(device):  # the reward does not count; the end stands in its place
                return get_loss(mdrnn, z[:, :-1], action, end, end, z[:, 1:], *options, mask)

        Slowed("mdrnn", mdrnn, RNN, loss, clip=1.0).run(train, test)

    def audit(self) -> None:
        """Blind policies, dreamed and real, side by side: where they differ, the dream is wrong."""
        games, table = GAMES["audit"], {}
        vae, mdrnn, _ = load_v_and_m(LOGDIR)
        for name in BLIND:
            row = {"real": self._games(name, Blind(name), "select", games).tolist()}
            plan = plans(name, [episode_seed("select", 0, i) for i in range(games)])
            for temperature in (1.0, 1.15):
                lengths = dreamed(vae, mdrnn.to_cell(), plan, temperature)
                row[f"dream {temperature}"] = lengths.tolist()
            table[name] = row
            print(
                f"{name:10}", {key: f"{np.mean(v):.0f} ± {np.std(v):.0f}" for key, v in row.items()}
            )
        write_json(LOGDIR / "audit.json", table)

    def dream(self) -> None:
        """C, by CMA-ES in dreams only, a search for each temperature."""
        for temperature in self.temperatures:
            agent, logdir = load_agent(CTRL), str(LOGDIR / search_name(temperature))
            config = dataclasses.replace(CTRL, temperature=temperature, logdir=logdir)
            train_controller(config, agent, dream_evaluator(agent, temperature))

    def choose(self) -> None:
        """Real games on seeds for choosing: which search plays best."""
        table = {}
        for temperature in TEMPERATURES:
            agent, name = world(temperature).agent(), search_name(temperature)
            tics = self._games(name, agent, "select", GAMES["select"])
            table[f"{temperature:g}"] = tics.tolist()
            print(f"τ = {temperature:g}: {tics.mean():.0f} ± {tics.std():.0f} on select seeds")
        write_json(LOGDIR / "choice.json", table)

    def diagnose(self, games: int = 60) -> None:
        """M's sense of death, on held-out random play and on the shipped agent's own games."""
        path = LOGDIR / "deaths.json"
        if path.exists():
            return
        agent = world(chosen()).agent()
        generate_rollouts(OWN, ENV, games, LIMIT, 16, 2028, agent, "gymnasium")
        vae, mdrnn, _ = load_v_and_m(LOGDIR)
        table = {}
        folders = {"held-out random play": DATA / "rest", "the agent's own games": OWN}
        for name, folder in folders.items():
            played = [read_rollout(file) for file in rollout_files(folder)[-HELD_OUT:]]
            fears = [foreseen(vae, mdrnn, game) for game in played]
            table[name] = deaths(fears, [bool(game.terminals[-1]) for game in played])
            print(name, table[name])
        write_json(path, table)

    def test(self) -> None:
        """The final test, on seeds that nothing was chosen by; no game is played a second time."""
        rows, best, walk = [], chosen(), GAMES["walk"]
        for temperature in sorted(TEMPERATURES, key=lambda temperature: temperature != best):
            agent, shipped = world(temperature).agent(), temperature == best
            name = f"V + M, C from dreams at τ = {temperature:g}"
            if shipped:
                name += ", the shipped agent"
            games = GAMES["test" if shipped else "table"]
            row = self._row(name, search_name(temperature), agent, games)
            rows.append(row | {"tau": temperature, **dream_score(agent, temperature)})
        for name in ("no-op", "random", "held", "sweep 125", "sweep 100"):
            games = walk if "sweep" in name else GAMES["blind"]
            rows.append(self._row(f"blind: {name}", name, Blind(name), games))
        own = "blind: the shipped agent's moves of another game"
        rows.append(self._row(own, "replayed", Blind("replayed"), walk))
        script = "a script that reads the fireballs from the game"
        rows.append(self._row(script, "script", dodge, GAMES["script"]))
        write_json(LOGDIR / "report.json", {"rows": rows})

    def pack(self) -> None:
        """V, M and the five C, the records, sample games and a card, as they ship."""
        packed = world(chosen())
        for temperature in TEMPERATURES:
            packed.others[f"tau-{round(100 * temperature):03d}"] = world(temperature).controller
        pack(packed, chosen())

    def _row(self, name: str, folder: str, player: Any, games: int) -> dict[str, Any]:
        """A report's row."""
        tics = self._games(folder, player, "evaluate", games)
        row: dict[str, Any] = {"agent": name, "env_id": ENV, "backend": "gymnasium", "seed": 0}
        row |= summarise(tics)
        row["versions"]["vizdoom"] = version("vizdoom")
        print(f"{name}: {row['mean']:.0f} ± {row['std']:.0f} ({games} games)")
        return row

    def _games(self, name: str, player: Any, purpose: str, count: int) -> np.ndarray:
        """Tics survived in real games on the seeds of a purpose, kept as they are played: (N,).

        A second process that goes backwards begins with the last ones; the two meet in the middle.

        Args:
            name: Of the folder for what was played.
            player: A policy, or a function from seeds to tics.
            purpose, count: See ``episode_seed``; how many.
        """
        play = functools.partial(live, player) if hasattr(player, "act") else player
        folder = LOGDIR / "games" / purpose / name.replace(" ", "-")
        parts = [range(first, min(count, first + CHUNK)) for first in range(0, count, CHUNK)]
        paths = {folder / f"{part.start:04}-{part.stop:04}.json": part for part in parts}
        for path in reversed(paths) if self.backwards else paths:
            if not path.exists():
                seeds = [episode_seed(purpose, 0, i) for i in paths[path]]
                write_json(path, [float(tics) for tics in play(seeds)])
        return np.concatenate([read_json(path) for path in paths])


def live(policy: Agent | Blind, seeds: Sequence[int]) -> np.ndarray:
    """Tics that a policy survives in the game, a game for each seed: (N,)."""
    with closing(make_vector_env(ENV, len(seeds))) as envs:
        return play_returns(envs, policy, seeds, LIMIT)[0]


def world(temperature: float) -> WorldModel:
    """V, M and the C of that search, its last mean."""
    path = LOGDIR / search_name(temperature) / "ctrl" / "checkpoint.tar"
    controller = controller_from_state(load_checkpoint(path)["state_dict"], str(path))
    info = {"env_name": ENV, "time_limit": LIMIT, "temperature": temperature}
    vae, mdrnn, _ = load_v_and_m(LOGDIR)
    return WorldModel(vae, mdrnn, controller, info)


def chosen() -> float:
    """The temperature whose search did best in the games for choosing."""
    table = read_json(LOGDIR / "choice.json")
    return float(max(table, key=lambda key: np.mean(table[key])))


def main(arguments: list[str] | None = None) -> None:
    """Read the command line; every stage in turn, or some of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    stages = list(TakeCover().stages)
    parser.add_argument("--until", choices=stages, default="pack", help="the last stage to run")
    parser.add_argument("--only", choices=stages, help="this stage alone")
    about = "the searches to see to, where two processes share the stage dream"
    parser.add_argument("--tau", type=float, nargs="*", default=TEMPERATURES, help=about)
    about = "begin with the last games: a second process that shares a stage with the first"
    parser.add_argument("--backwards", action="store_true", help=about)
    args = parser.parse_args(arguments)
    run = TakeCover(args.tau, args.backwards)
    names = [args.only] if args.only else stages[: stages.index(args.until) + 1]
    for name in names:
        print(f"stage {name}")
        run.stages[name]()


if __name__ == "__main__":
    main()
