"""CMA-ES asks, the world tells."""

import csv
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
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
    config: WMControllerConfig, agent: Agent | None = None, evaluator: Evaluator | None = None,
    start: np.ndarray | None = None, axes: Callable[[np.ndarray], np.ndarray] | None = None,
    fitness: Callable[[np.ndarray], np.ndarray] = mean_return,
    more_tracks: Callable[[Played], list[int]] | None = None,
    on_generation: Callable[[dict[str, float]], None] | None = None,
) -> History:  # fmt: skip
    """Evolve C; ``<logdir>/ctrl`` gets checkpoints, the search's state and a row per generation.

    All candidates of a generation play the same fresh tracks. Every tenth generation the CMA mean
    is scored on held-out tracks; ``best.tar`` is the mean that scored best there.

    Args:
        config: Every setting. What an ``agent`` or an ``evaluator`` brings with it is theirs.
        agent: V and M, and C's architecture; from the logdir by default.
        evaluator: Where fitness comes from; this machine's environments by default.
        start: The first mean; by default the recorded one, else zeros, which is a car that moves.
        axes: What the search's coordinates mean; see ``Search``. The weights by default.
        fitness: From returns (P, E) to what candidates are compared by (P,).
        more_tracks: Seeds of tracks to play beside the fresh ones, from all that was played.
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
    folder = Path(config.logdir) / "ctrl"
    agent = agent or load_agent(config)
    if agent.sample_z != config.sample_z:
        raise ValueError(
            f"WMControllerConfig.sample_z is {config.sample_z}, the agent's is {agent.sample_z}; "
            "make them equal"
        )
    path, own = folder / "search.json", evaluator is None
    with ExitStack() as stack:
        stack.enter_context(locked(folder))
        with reading(path, "is no search to go on with", "restore it, or delete it to begin anew"):
            recorded = read_json(path, "settings", "rows", "fitness") if path.exists() else {}
            if start is None:
                zeros = np.zeros(len(flatten_parameters(agent.controller.parameters())))
                start = np.array(recorded["settings"]["start"]) if recorded else zeros
            search = Search(start, config.sigma0, config.pop_size, config.seed, axes=axes)
            settings = {key: getattr(config, key) for key in SETTINGS} | {"start": start.tolist()}
            tricks: dict[str, Any] = {"axes": axes, "fitness": fitness, "more_tracks": more_tracks}
            for part, trick in tricks.items():  # by the name of the function, or of its class
                settings[part] = trick and getattr(trick, "__name__", type(trick).__name__)
            # Older records do not say what was played.
            state = {"settings": settings, "rows": [], "fitness": [], "played": []} | recorded
            check_settings(path, state["settings"], settings)
            _replay(folder, config, state, search, agent)
        rows: History = state["rows"]
        if own and config.evaluator in ("ray", "dream"):
            raise ValueError(
                f"WMControllerConfig.evaluator is {config.evaluator!r}: hand one in as evaluator=…"
                ", as wmlib's command line does"
            )
        evaluator = evaluator or LocalEvaluator(agent, config.env_name, **world_options(config))
        if own:
            stack.callback(evaluator.close)
        total, hidden = config.num_generations, not config.display
        bar = tqdm(total=total, initial=len(rows), desc="ctrl", unit="generation", disable=hidden)
        stack.callback(bar.close)
        while len(rows) < config.num_generations and _top(rows) < config.target_return:
            row = _generation(config, search, evaluator, state, fitness, more_tracks)
            rows.append(row)
            _save(config, state, search, agent)
            bar.update()
            shown = {"mean": row["mean"], "best": row["best"], "top": _top(rows)}
            bar.set_postfix(**{key: f"{value:.0f}" for key, value in shown.items()})
            if on_generation is not None:
                on_generation(row)
    return rows


def _generation(
    config: WMControllerConfig, search: Search, evaluator: Evaluator, state: dict[str, Any],
    fitness: Callable[[np.ndarray], np.ndarray], more_tracks: Callable[[Played], list[int]] | None,
) -> dict[str, float]:  # fmt: skip
    """One generation: ask, play, tell; and score the mean when that is due."""
    rows: History = state["rows"]
    began, generation = time.perf_counter(), len(rows) + 1
    first = TRACKS * len(rows)
    tracks = [episode_seed("train", config.seed, first + i) for i in range(config.n_samples)]
    tracks += more_tracks(state["played"]) if more_tracks else []
    scores = evaluator(search.ask(), tracks)  # returns (P, E)
    told = fitness(scores.returns)
    if not np.isfinite(told).all():
        raise FloatingPointError(
            f"generation {generation} has a fitness that is no number ({told}); what was recorded "
            "before it is kept: look at V and M, then run again"
        )
    search.tell(told)
    state["fitness"] = search.fitness
    state["played"].append({"seeds": tracks, "returns": scores.returns.round(3).tolist()})
    means = scores.returns[:, : config.n_samples].mean(axis=1)  # on the fresh tracks
    last = rows[-1] if rows else {"seconds": 0.0, "env_steps": 0}
    row = {"generation": generation, "env_steps": last["env_steps"] + scores.steps}
    row |= {"mean": float(means.mean()), "best": float(means.max()), "sigma": search.sigma}
    if generation % INTERVAL == 0 or generation == config.num_generations:
        seeds = [episode_seed("select", config.seed, i) for i in range(HELD_OUT * config.n_samples)]
        row["cma_mean"] = float(evaluator(search.mean[None], seeds, final=True).returns.mean())
    row["seconds"] = last["seconds"] + time.perf_counter() - began
    return row


def _replay(
    folder: Path, config: WMControllerConfig, state: dict[str, Any], search: Search, agent: Agent
) -> None:
    """Bring a new search to where the recorded one was; ValueError if it arrives elsewhere.

    Weights that are gone are written again: each generation's mean comes by once more.
    """
    path, weights = folder / "search.json", ("best.tar", "checkpoint.tar")
    gone = not all((folder / name).exists() for name in weights)
    for i, (_, told) in enumerate(zip(state["rows"], state["fitness"], strict=True)):
        search.tell(np.array(told))
        if gone:
            _save_mean(config, state["rows"][: i + 1], search, agent)
    recorded = state["rows"][-1]["sigma"] if state["rows"] else search.sigma
    if not math.isclose(search.sigma, recorded, rel_tol=1e-3):
        raise ValueError(
            f"{path} cannot be replayed: it ends at sigma {recorded:.6g}, its replay at "
            f"{search.sigma:.6g}; another kind or version of CMA-ES wrote it (here is cma "
            f"{versions()['cma']}): install that one, or give another logdir to begin anew"
        )


def _save(config: WMControllerConfig, state: dict[str, Any], search: Search, agent: Agent) -> None:
    """The mean as a checkpoint, the rows as CSV, and last the state that a resumed run reads."""
    rows, folder = state["rows"], Path(config.logdir) / "ctrl"
    _save_mean(config, rows, search, agent)
    with atomic_path(folder / "generations.csv") as path, path.open("w", encoding="utf-8") as file:
        names = ("generation", "seconds", "env_steps", "mean", "best", "sigma", "cma_mean")
        table = csv.DictWriter(file, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows({key: round(value, 4) for key, value in row.items()} for row in rows)
    write_json(folder / "search.json", state)


def _save_mean(config: WMControllerConfig, rows: History, search: Search, agent: Agent) -> None:
    """The mean that these rows led to; as the best one, too, if it scored best."""
    load_parameters(search.mean, agent.controller)
    folder = Path(config.logdir) / "ctrl"
    weights = {"epoch": len(rows), "reward": rows[-1].get("cma_mean", rows[-1]["mean"])}
    state = {"config": config.to_dict(), "state_dict": agent.controller.state_dict()}
    if rows[-1].get("cma_mean", -math.inf) == _top(rows):
        save_checkpoint(folder / "best.tar", weights | state)
    save_checkpoint(folder / "checkpoint.tar", weights | state)


def _top(rows: History) -> float:
    """The best score of the CMA mean so far; -inf before the first, so that it is kept."""
    return max((row["cma_mean"] for row in rows if "cma_mean" in row), default=-math.inf)


def world_options(config: WMControllerConfig) -> dict[str, Any]:
    """What a configuration says of the world, as ``LocalEvaluator`` takes it."""
    names = ("time_limit", "patience", "max_workers", "env_kwargs")
    backend = "auto" if config.evaluator == "ray" else config.evaluator
    return {name: getattr(config, name) for name in names} | {"backend": backend}
