"""From nothing to the driver of CarRacing-v3 that ships, on two cores, without a hand on it.

    python runs/carracing-v3/driver.py --seed 0

plays at random, trains V, M and C on that, lets this C drive, trains V and M anew on what it met,
carries its hand over, evolves it in EnvPool's copy of the game and then in Gymnasium's, chooses,
tests what was chosen on tracks that nothing before has seen, and packs it. Every choice is made
below, none by whoever runs it. Killed at any time, the same command goes on.

The search reads tracks of *train*, every choice tracks of *select*, the test tracks of *evaluate*,
by seeds that stand below. Whoever runs several seeds ships the one whose choice scored best on
*select*, with ``--final 1000 --folder wmlib/pretrained/carracing-v3``.
"""

from __future__ import annotations

import argparse
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ablation import LESIONS, Lesioned, ablate
from axes import Axes
from choice import choose, means
from fitness import mean_ranks, telling_tracks, three_telling_tracks, worst_half
from imitation import imitate, input_moments
from noise import NoisyPolicy
from pack import pack
from recipe import FULL, TINY
from rows import drive, lap_row
from sight import look

from wmlib.agent import Agent
from wmlib.checkpoints import load_checkpoint, read_json, save_checkpoint, write_json
from wmlib.collect import generate_rollouts, rollout_paths
from wmlib.config import WMControllerConfig
from wmlib.controller import load_parameters
from wmlib.datasets import split_point
from wmlib.envs import episode_seed
from wmlib.evaluators import LocalEvaluator
from wmlib.evolution import train_controller
from wmlib.pipeline import Run
from wmlib.world import WorldModel, load_agent, load_trained

ENV = "CarRacing-v3"
# Seeds of *evaluate*, named before anything was driven on them: of a run's own test, of the
# thousand laps of the one that ships, and of the ablation. Earlier drivers have seen 0, 6 and 9.
TEST, FINAL, ABLATION = 11, 2026, 13
CHOICE = 17  # of *select*, the same for all runs, so that their scores can be compared
WATCHED = 64  # drives that show how C's inputs vary
COPIED = 160  # drives that show what another driver would do


@dataclass
class Driver:
    """One run: where it is, and its stages in order.

    Attributes:
        seed: Of everything.
        logdir: For all that the run writes.
        recipe: Every size, as ``FULL`` has them.
        folder: For what is packed.
        final: Laps of the last test; 0 leaves it out.
        others: Folders of runs whose tests are packed beside this one's.
    """

    seed: int
    logdir: Path
    recipe: dict[str, Any]
    folder: Path
    final: int = 0
    others: Sequence[Path] = ()

    def __post_init__(self) -> None:
        played = self.recipe["play"]["episodes"]
        self.numbers = range(played, played + self.recipe["drives"])  # of the noisy drives
        self.data, self.limit = self.logdir / "data", self.recipe["time_limit"]
        self.stages: dict[str, Callable[[], None]] = {
            "round1": self.first_round,
            "round2": self.second_round,
            "look": self.look,
            "envpool": self.search_in_envpool,
            "gymnasium": self.search_in_gymnasium,
            "choice": self.choose,
            "test": self.test,
            "pack": self.pack,
        }
        self.apart = {"ablation": self.ablate}

    def go(self, names: list[str]) -> None:
        """Run these stages; what is done is not done again.

        ``times.json`` has the seconds that each took, and of how many cores: ``core_seconds`` hold
        on a busy machine, too.
        """
        path = self.logdir / "times.json"
        for name in names:
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
            began = clocks()
            try:
                (self.stages | self.apart)[name]()
            finally:  # also where it was interrupted
                times = read_json(path) if path.exists() else {}
                before = times.get(name, dict.fromkeys(began, 0.0))
                times[name] = {
                    clock: round(before[clock] + now - began[clock], 1)
                    for clock, now in clocks().items()
                }
                write_json(path, times)

    def first_round(self) -> None:
        """Random play; V and M on it; C from zeros."""
        if not self._is_carried_over():  # otherwise nobody asks for this round again
            run = self._round(self.logdir / "round1", self.recipe["round1"], self._play)
            run.train_ctrl()

    def second_round(self) -> None:
        """What the first driver meets with a shaking hand, in both games; V and M from scratch."""

        def calls() -> list[dict[str, Any]]:
            return self._play() + self._shaken(self.numbers)

        self._round(self.logdir, self.recipe["round2"], calls)

    def _play(self) -> list[dict[str, Any]]:
        """What collects random play."""
        play = self.recipe["play"]
        return in_both_games(range(play["episodes"]), policy="brownian", seq_len=play["seq_len"])

    def _shaken(self, numbers: range) -> list[dict[str, Any]]:
        """What collects the first driver's noisy drives."""
        driver = load_trained(self.logdir / "round1")
        policy = NoisyPolicy(driver.agent(), driver.space())
        return in_both_games(numbers, policy=policy, seq_len=self.limit)

    def _round(self, logdir: Path, sizes: dict[str, Any], calls: Callable[[], Any]) -> Run:
        """Data, V and M of a round, V and M rounded as they ship."""
        ctrl = {"time_limit": self.limit} | sizes.get("ctrl", {})
        places = str(self.data), str(logdir)
        run = Run(ENV, *places, [], sizes["vae"], sizes["rnn"], ctrl, seed=self.seed)
        for stage, train in (("vae", run.train_vae), ("mdrnn", run.train_rnn)):
            if not _finished(logdir / stage):
                run.rollouts = calls()
                run.collect()
                train()
            best = load_checkpoint(logdir / stage / "best.tar")
            halves = {key: value.half() for key, value in best["state_dict"].items()}
            save_checkpoint(logdir / stage / "best.tar", best | {"state_dict": halves})
        return run

    def look(self) -> None:
        """V's error on held-out drives of both games, at kerbs and in hairpins."""
        path = self.logdir / "sight.json"
        if not path.exists():
            held_out = self.numbers.stop - split_point(self.numbers.stop)
            vae = load_agent(self._config("gymnasium"), "cpu").vae
            write_json(path, look(vae, self._drives(held_out)))
        print(path.read_text())

    def search_in_envpool(self) -> None:
        """From the first driver's hand, along axes; by ranks, on fresh and on telling tracks."""
        agent, start = self._agent("envpool"), None
        if not self._is_carried_over():
            Axes.of(input_moments(agent, self._drives(WATCHED))).save(self.logdir / "axes.npz")
            driver = load_trained(self.logdir / "round1").agent()
            start = imitate(agent, driver, self._drives(COPIED))
        self._search("envpool", agent, start, mean_ranks, telling_tracks)

    def _is_carried_over(self) -> bool:
        """Whether the second round's search has begun, which remembers its start."""
        return (self.logdir / "envpool" / "ctrl" / "search.json").exists()

    def search_in_gymnasium(self) -> None:
        """On in the game that counts, on samples of z, by the worse half of the laps.

        C begins as the one that does on samples what EnvPool's last mean did on means of z.
        """
        agent, start = self._agent("gymnasium"), None
        if not (self.logdir / "ctrl" / "search.json").exists():
            driver = self._agent("envpool")
            load_parameters(self._means("envpool")[-1], driver.controller)
            start = imitate(agent, driver, self._drives(COPIED))
        self._search("gymnasium", agent, start, worst_half, three_telling_tracks)

    def choose(self) -> None:
        """Which mean, with which constants on its gas and brake, and then on its steering."""
        path, how = self.logdir / "ctrl" / "chosen.tar", self.recipe["choice"]
        if path.exists():
            return
        after, agent = self._means("gymnasium"), self._agent("gymnasium", sample_z=False)
        numbers = (0, len(after) // 2, len(after) - 1)
        starts = {f"generation {number}": after[number] for number in numbers}
        evaluator = LocalEvaluator(agent, ENV, self.limit, backend="gymnasium")
        tracks = [episode_seed("select", CHOICE, i) for i in range(2 * how["tracks"])]
        try:
            name, flat, scored = choose(path.parent, starts, evaluator, tracks, how)
        finally:
            evaluator.close()
        load_parameters(flat, agent.controller)
        payload = {"state_dict": agent.controller.state_dict(), "chosen": name, "reward": scored}
        save_checkpoint(path, payload)
        print(f"chosen: {name}, {scored:.1f} on {how['tracks']} tracks of select")

    def test(self) -> None:
        """The chosen driver on fresh tracks: in both games, on samples of z, without its h."""
        name, count = f"one command, seed {self.seed}", self.recipe["laps"]
        rows = [
            self._laps(name, self.world.agent(), "gymnasium", TEST, count),
            self._laps(name, self.world.agent(), "auto", TEST, count),
            self._laps(
                f"{name}, z sampled", self.world.agent(sample_z=True), "gymnasium", TEST, count
            ),
        ]
        for lesion in LESIONS:
            lesioned = Lesioned(lesion, self.world)
            rows.append(self._laps(f"{name}, {lesion}", lesioned, "auto", TEST, count))
        if self.final:
            shipped = "V + M, the shipped agent"
            rows.append(self._laps("random", "random", "gymnasium", FINAL, count))
            rows.append(self._laps(shipped, self.world.agent(), "gymnasium", FINAL, self.final))
        write_json(self.logdir / "report.json", {"rows": rows})
        for row in rows:
            print({key: row[key] for key in ("agent", "backend", "mean", "ci95", "p10", "worst")})

    def ablate(self) -> None:
        """z alone, z and an untrained M's h, z and h: many searches of each. A stage by itself."""
        recipe = self.recipe["ablation"]
        ctrl = {"env_name": ENV, "time_limit": self.limit} | recipe["ctrl"]
        world, drives = load_trained(self.logdir), self._drives(WATCHED)
        ablate(self.logdir / "ablation", world, drives, recipe | {"ctrl": ctrl}, ABLATION)

    def pack(self) -> None:
        """What ships: weights, records, a card made from them, and sample episodes."""
        pack(self.logdir, self.folder, self.world, self.seed, self.others, **self.recipe["samples"])

    def _drives(self, count: int) -> list[Path]:
        """The last of the noisy drives, driven again where only a run's smaller files are left."""
        numbers = self.numbers[-count:]
        paths = rollout_paths(self.data, numbers)
        if not all(path.exists() for path in paths.values()):
            for call in self._shaken(numbers):
                generate_rollouts(self.data, ENV, seed=self.seed, **call)
        return list(paths.values())

    @cached_property
    def world(self) -> WorldModel:
        """V, M, and the C that was chosen, which no search writes over."""
        world = load_trained(self.logdir)
        world.controller.load_state_dict(
            load_checkpoint(self.logdir / "ctrl" / "chosen.tar")["state_dict"]
        )
        return world

    def _config(self, search: str, **changes: Any) -> WMControllerConfig:
        """A search's settings."""
        fields = {
            "env_name": ENV,
            "seed": self.seed,
            "logdir": str(self._place(search)),
            "hidden_size": self.recipe["round2"]["rnn"].get("hidden_size", 256),
            "time_limit": self.limit,
        }
        return WMControllerConfig(**(fields | self.recipe[search] | changes))

    def _place(self, search: str) -> Path:
        """The last search stands with V and M, as in any run; others have folders of their own."""
        return self.logdir if search == "gymnasium" else self.logdir / search

    def _agent(self, search: str, **changes: Any) -> Agent:
        """V and M of the second round, and a C to be evolved."""
        return load_agent(replace(self._config(search, **changes), logdir=str(self.logdir)))

    def _search(self, name: str, agent: Agent, start: Any, fitness: Any, tracks: Any) -> None:
        axes = Axes.load(self.logdir / "axes.npz")
        train_controller(self._config(name), agent, None, start, axes, fitness, tracks)

    def _means(self, search: str) -> list[np.ndarray]:
        axes = Axes.load(self.logdir / "axes.npz")
        return means(self._place(search) / "ctrl" / "search.json", axes)

    def _laps(self, name: str, policy: Any, game: str, seed: int, count: int) -> dict[str, Any]:
        """A report's row; its laps are kept as they are driven."""
        place = f"{name}, {game}, evaluate {seed}.json".replace(", ", "_").replace(" ", "_")
        tracks = [episode_seed("evaluate", seed, i) for i in range(count)]
        laps = drive(self.logdir / "laps" / place, policy, ENV, tracks, game, self.limit)
        return lap_row(name, ENV, seed, laps)


def clocks() -> dict[str, float]:
    """Seconds, and seconds of cores, of this process and of its children that have ended."""
    spent = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cores = sum(each.ru_utime + each.ru_stime for each in spent)
    return {"seconds": time.perf_counter(), "core_seconds": cores}


def in_both_games(numbers: range, **call: Any) -> list[dict[str, Any]]:
    """Calls of ``generate_rollouts``, a third in Gymnasium: what is held out has both games."""
    third = [i for i in numbers if i % 3 == 2]
    parts = {"auto": [i for i in numbers if i % 3 != 2], "gymnasium": third}
    return [call | {"backend": game, "part": part} for game, part in parts.items()]


def _finished(folder: Path) -> bool:
    """Whether a training has had all its epochs."""
    path = folder / "history.json"
    return path.exists() and bool(read_json(path, "finished")["finished"])


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, and drive."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logdir", type=Path, help="default: results/driver-<seed>")
    parser.add_argument("--stage", help="one stage alone, such as ablation; default: all but that")
    parser.add_argument("--final", type=int, default=0, help="laps of the last test, declared once")
    parser.add_argument("--folder", type=Path, help="to pack into; default: <logdir>/carracing-v3")
    parser.add_argument(
        "--others", type=Path, nargs="*", default=[], help="runs to be named beside"
    )
    parser.add_argument("--tiny", action="store_true", help="every stage in seconds")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what it took is written down
    logdir = args.logdir or Path(f"results/driver-{args.seed}")
    folder = args.folder or logdir / "carracing-v3"
    recipe = TINY if args.tiny else FULL
    driver = Driver(args.seed, logdir, recipe, folder, args.final, args.others)
    known = driver.stages | driver.apart
    if args.stage and args.stage not in known:
        parser.error(f"--stage must be one of {', '.join(known)}, found {args.stage!r}")
    driver.go([args.stage] if args.stage else list(driver.stages))


if __name__ == "__main__":
    main()
