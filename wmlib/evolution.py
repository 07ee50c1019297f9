"""CMA-ES asks, the world tells."""

import csv
import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from wmlib.agent import Agent
from wmlib.checkpoints import (
    atomic_path,
    check_settings,
    locked,
    read_json,
    reading,
    save_checkpoint,
    versions,
    write_json,
)
from wmlib.config import WMControllerConfig
from wmlib.controller import flatten_parameters, load_parameters
from wmlib.envs import episode_seed
from wmlib.evaluators import Evaluator, LocalEvaluator
from wmlib.search import Search
from wmlib.world import load_agent

History = list[dict[str, float]]
Played = list[dict[str, Any]]  # of each generation: its tracks' "seeds" (E,), its "returns" (P, E)
Fitness = Callable[[np.ndarray], np.ndarray]  # from returns (P, E) to what counts (P,)
MoreTracks = Callable[[Played], list[int]]  # from what was played to seeds of tracks
# What a recorded search must agree on to go on.
SETTINGS = ["pop_size", "sigma0", "seed", "env_name", "env_kwargs", "time_limit", "n_samples"]
SETTINGS += ["patience", "sample_z", "evaluator", "temperature"]
TRACKS = 1000  # room for each generation's tracks, however many it plays
INTERVAL = 10  # generations between two scores of the CMA mean
HELD_OUT = 4  # tracks of such a score, for each one that a candidate plays


def mean_return(returns: np.ndarray) -> np.ndarray:
    """What candidates are compared by: the mean over their tracks, (P,) of (P, E)."""
    return np.asarray(returns.mean(axis=1))


def train_controller(
    config: WMControllerConfig,
    agent: Agent | None = None,
    evaluator: Evaluator | None = None,
    start: np.ndarray | None = None,
    axes: Callable[[np.ndarray], np.ndarray] | None = None,
    fitness: Fitness = mean_return,
    more_tracks: MoreTracks | None = None,
    on_generation: Callable[[dict[str, float]], None] | None = None,
) -> History:
    """Evolve C; ``<logdir>/ctrl`` gets checkpoints, the search's state and a row per generation.

    All candidates of a generation play the same fresh tracks. Every tenth generation the CMA mean
    is scored on held-out tracks; ``best.tar`` is the mean that scored best there.

    Args:
        config: Every setting. What an ``agent`` or an ``evaluator`` brings with it is theirs.
        agent: V and M, and C's architecture; from the logdir by default.
        evaluator: Where fitness comes from; this machine's environments by default.
        start: The first mean; by default the recorded one, else zeros, which is a car that moves.
        axes: What the search's coordinates mean; see ``Search``. The weights by default.
        fitness: What candidates are compared by.
        more_tracks: Tracks to play beside the fresh ones.
        on_generation: Called with every new row.

    Returns:
        The rows: generation, seconds and env_steps (both summed up), mean and best on the fresh
        tracks, sigma and, every few generations, cma_mean.

    Raises:
        ValueError: If the recorded search had other settings, which are named, or cannot be
            replayed, or if the agent acts otherwise than the configuration says.
        FloatingPointError: If a fitness is not a number.

    Source: Ha & Schmidhuber (2018), section 2.5 and appendix A.4.
    """
    agent = agent or load_agent(config)
    if agent.sample_z != config.sample_z:
        raise ValueError(
            f"WMControllerConfig.sample_z is {config.sample_z}, the agent's is {agent.sample_z}; "
            "make them equal"
        )
    if evaluator is None and config.evaluator in ("ray", "dream"):
        raise ValueError(
            f"WMControllerConfig.evaluator is {config.evaluator!r}: hand one in as evaluator=…, as "
            "wmlib's command line does"
        )
    own = LocalEvaluator(agent, config.env_name, **world_options(config))
    with locked(Path(config.logdir) / "ctrl"), closing(own):
        evolution = Evolution(config, agent, start, axes, fitness, more_tracks)
        rows, total, hidden = evolution.rows, config.num_generations, not config.display
        bar = tqdm(total=total, initial=len(rows), desc="ctrl", unit="generation", disable=hidden)
        with bar:
            while len(rows) < total and _top(rows) < config.target_return:
                row = evolution.generation(own if evaluator is None else evaluator)
                bar.update()
                shown = {"mean": row["mean"], "best": row["best"], "top": _top(rows)}
                bar.set_postfix(**{key: f"{value:.0f}" for key, value in shown.items()})
                if on_generation is not None:
                    on_generation(row)
    return rows


@dataclass(eq=False)
class Evolution:
    """A search of C and its record: every generation is asked, played, told and kept.

    For the fields, see ``train_controller``; ``rows`` is what that returns. What ``search.json``
    has recorded it goes on from.
    """

    config: WMControllerConfig
    agent: Agent
    start: InitVar[np.ndarray | None]
    axes: Callable[[np.ndarray], np.ndarray] | None
    fitness: Fitness
    more_tracks: MoreTracks | None

    def __post_init__(self, start: np.ndarray | None) -> None:
        config, agent, axes = self.config, self.agent, self.axes
        self.folder = Path(config.logdir) / "ctrl"
        path = self.folder / "search.json"
        with reading(path, "is no search to go on with", "restore it, or delete it to begin anew"):
            recorded = read_json(path, "settings", "rows", "fitness") if path.exists() else {}
            if start is None:
                zeros = np.zeros(len(flatten_parameters(agent.controller.parameters())))
                start = np.array(recorded["settings"]["start"]) if recorded else zeros
            self.search = Search(start, config.sigma0, config.pop_size, config.seed, axes=axes)
            settings = {key: getattr(config, key) for key in SETTINGS} | {"start": start.tolist()}
            for part in ("axes", "fitness", "more_tracks"):  # by the name of function or class
                trick = getattr(self, part)
                settings[part] = trick and getattr(trick, "__name__", type(trick).__name__)
            # Older records do not say what was played.
            self.state = {"settings": settings, "rows": [], "fitness": [], "played": []} | recorded
            self.rows: History = self.state["rows"]
            check_settings(path, self.state["settings"], settings)
            self._replay(path)

    def _replay(self, path: Path) -> None:
        """Bring the new search to where the recorded one was; ValueError if it arrives elsewhere.

        Weights that are gone are written again: each generation's mean comes by once more.
        """
        search, weights = self.search, ("best.tar", "checkpoint.tar")
        gone = not all((self.folder / name).exists() for name in weights)
        for i, (_, told) in enumerate(zip(self.rows, self.state["fitness"], strict=True)):
            search.tell(np.array(told))
            if gone:
                self._save_mean(self.rows[: i + 1])
        recorded = self.rows[-1]["sigma"] if self.rows else search.sigma
        if not math.isclose(search.sigma, recorded, rel_tol=1e-3):
            raise ValueError(
                f"{path} cannot be replayed: it ends at sigma {recorded:.6g}, its replay at "
                f"{search.sigma:.6g}; another kind or version of CMA-ES wrote it (here is cma "
                f"{versions()['cma']}): install that one, or give another logdir to begin anew"
            )

    def generation(self, evaluator: Evaluator) -> dict[str, float]:
        """Ask, play, tell; score the mean when that is due; save. The generation's row."""
        config, search, rows = self.config, self.search, self.rows
        began, generation = time.perf_counter(), len(rows) + 1
        first = TRACKS * len(rows)
        tracks = [episode_seed("train", config.seed, first + i) for i in range(config.n_samples)]
        tracks += self.more_tracks(self.state["played"]) if self.more_tracks else []
        scores = evaluator(search.ask(), tracks)  # returns (P, E)
        told = self.fitness(scores.returns)
        if not np.isfinite(told).all():
            raise FloatingPointError(
                f"generation {generation} has a fitness that is no number ({told}); what was "
                "recorded before it is kept: look at V and M, then run again"
            )
        search.tell(told)
        self.state["fitness"] = search.fitness
        self.state["played"].append({"seeds": tracks, "returns": scores.returns.round(3).tolist()})
        means = scores.returns[:, : config.n_samples].mean(axis=1)  # on the fresh tracks
        last = rows[-1] if rows else {"seconds": 0.0, "env_steps": 0}
        row = {"generation": generation, "env_steps": last["env_steps"] + scores.steps}
        row |= {"mean": float(means.mean()), "best": float(means.max()), "sigma": search.sigma}
        if generation % INTERVAL == 0 or generation == config.num_generations:
            count = HELD_OUT * config.n_samples
            seeds = [episode_seed("select", config.seed, i) for i in range(count)]
            row["cma_mean"] = float(evaluator(search.mean[None], seeds, final=True).returns.mean())
        row["seconds"] = last["seconds"] + time.perf_counter() - began
        rows.append(row)
        self._save()
        return row

    def _save(self) -> None:
        """The mean as a checkpoint, the rows as CSV, last the state that a resumed run reads."""
        self._save_mean(self.rows)
        path = self.folder / "generations.csv"
        with atomic_path(path) as written, written.open("w", encoding="utf-8") as file:
            names = ("generation", "seconds", "env_steps", "mean", "best", "sigma", "cma_mean")
            table = csv.DictWriter(file, names, restval="", lineterminator="\n")
            table.writeheader()
            table.writerows({key: round(n, 4) for key, n in row.items()} for row in self.rows)
        write_json(self.folder / "search.json", self.state)

    def _save_mean(self, rows: History) -> None:
        """The mean that these rows led to; as the best one, too, if it scored best."""
        controller = load_parameters(self.search.mean, self.agent.controller)
        weights: dict[str, Any] = {"epoch": len(rows)}
        weights["reward"] = rows[-1].get("cma_mean", rows[-1]["mean"])
        weights |= {"config": self.config.to_dict(), "state_dict": controller.state_dict()}
        if rows[-1].get("cma_mean", -math.inf) == _top(rows):
            save_checkpoint(self.folder / "best.tar", weights)
        save_checkpoint(self.folder / "checkpoint.tar", weights)


def _top(rows: History) -> float:
    """The best score of the CMA mean so far; -inf before the first, so that it is kept."""
    return max((row["cma_mean"] for row in rows if "cma_mean" in row), default=-math.inf)


def world_options(config: WMControllerConfig) -> dict[str, Any]:
    """What a configuration says of the world, as ``LocalEvaluator`` takes it."""
    names = ("time_limit", "patience", "max_workers", "env_kwargs")
    backend = "auto" if config.evaluator == "ray" else config.evaluator
    return {name: getattr(config, name) for name in names} | {"backend": backend}
