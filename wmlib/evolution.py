"""CMA-ES asks, the world tells."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from wmlib.agent import Agent
from wmlib.axes import Axes
from wmlib.checkpoints import atomic_path, read_json, save_checkpoint, write_json
from wmlib.config import WMControllerConfig
from wmlib.controller import flatten_parameters, load_parameters
from wmlib.envs import episode_seed
from wmlib.fitness import Evaluator, LocalEvaluator
from wmlib.pretrained import load_agent
from wmlib.search import Search

__all__ = ["train_controller", "world_options"]

History = list[dict[str, float]]
# What a recorded search must agree on to be replayed.
SEARCH_FIELDS = ("pop_size", "sigma0", "diagonal", "seed", "env_name", "coordinates")
TRACKS = 1000  # room for each generation's tracks, however many it plays
MEMORY = 10  # generations for which a track may come back


def train_controller(
    config: WMControllerConfig,
    agent: Agent | None = None,
    evaluator: Evaluator | None = None,
    start: np.ndarray | None = None,
    axes: Axes | None = None,
    on_generation: Callable[[dict[str, float]], None] | None = None,
) -> History:
    """Evolve C; ``<logdir>/<name>`` gets checkpoints, the search's state and a row per generation.

    All candidates of a generation play the same tracks: fresh ones, and ``hard_samples`` of those
    of the last generations on which candidates differed most. The bends that end a lap are too rare
    to be met on a few fresh tracks, and one that all candidates fail on, or none, teaches nothing.
    Every ``eval_interval`` generations the CMA mean is scored on held-out
    tracks; ``best.tar`` is the mean that scored best there.

    Args:
        config: Every setting.
        agent: V and M, and C's architecture; from the logdir by default.
        evaluator: Where fitness comes from; see ``Evaluator``. This machine's environments by
            default.
        start: The first mean; by default the recorded search's, and else zeros, which is a car
            that moves.
        axes: What the search's coordinates are, where ``coordinates`` is "axes"; by default the
            recorded search's.
        on_generation: Called with every new row.

    Returns:
        The rows: generation, seconds and env_steps (both summed up), mean and best on the fresh
        tracks, sigma and, every few generations, cma_mean.

    Raises:
        ValueError: If the recorded search had other settings, which are named, or if there are no
            axes where ``coordinates`` asks for them.
    """
    folder = Path(config.logdir) / config.name
    agent = agent or load_agent(config)
    start = _first_mean(folder / "search.json", config.noreload, agent) if start is None else start
    axes = _axes(folder / "axes.npz", config, axes)
    search = Search(start, config.sigma0, config.pop_size, config.seed, config.diagonal, axes)
    fields = SEARCH_FIELDS + (("evaluator", "temperature") if config.evaluator == "dream" else ())
    settings = {key: getattr(config, key) for key in fields} | {"start": start.tolist()}
    state = _resume(folder / "search.json", settings, search, config.noreload)
    rows: History = state["rows"]
    own = evaluator is None
    evaluator = evaluator or _local(config, agent)
    bar = tqdm(total=config.num_generations, initial=len(rows), desc="ctrl", unit="generation",
               disable=not config.display)  # fmt: skip
    try:
        while len(rows) < config.num_generations and _top(rows) < config.target_return:
            row = _generation(config, search, evaluator, state)
            rows.append(row)
            state["fitness"] = search.fitness
            _save(
                folder, state, search, agent, is_best=row.get("cma_mean", -math.inf) == _top(rows)
            )
            bar.update()
            bar.set_postfix(
                mean=f"{row['mean']:.0f}", best=f"{row['best']:.0f}", top=f"{_top(rows):.0f}"
            )
            if on_generation is not None:
                on_generation(row)
    finally:
        bar.close()
        if own:
            evaluator.close()
    return rows


def _generation(
    config: WMControllerConfig, search: Search, evaluator: Evaluator, state: dict[str, Any]
) -> dict[str, float]:
    """One generation: ask, play, tell; and score the mean when that is due."""
    rows: History = state["rows"]
    began, done = time.perf_counter(), len(rows)
    late = config.late_samples > 0 and done >= config.late_generation
    count = config.late_samples if late else config.n_samples
    seeds = [episode_seed("train", config.seed, TRACKS * done + i) for i in range(count)]
    tracks = [{"seed": seed, "generation": done} for seed in seeds]
    tracks += sorted(state["tracks"], key=lambda track: -track["spread"])[: config.hard_samples]
    scores = evaluator(search.ask(), [track["seed"] for track in tracks])
    by_rank = config.fitness == "rank"
    fitness = mean_ranks(scores.returns) if by_rank else scores.returns.mean(axis=1)
    if not np.isfinite(fitness).all():
        raise FloatingPointError(
            f"generation {done + 1} has a fitness that is no number ({fitness}); what was recorded "
            "before it is kept: look at V and M, then run again"
        )
    search.tell(fitness)
    _remember(state, tracks, scores.returns.std(axis=0))
    fresh = scores.returns[:, :count].mean(axis=1)
    last = rows[-1] if rows else {"seconds": 0.0, "env_steps": 0}
    row = {
        "generation": done + 1,
        "env_steps": last["env_steps"] + scores.steps,
        "mean": float(fresh.mean()),
        "best": float(fresh.max()),
        "sigma": search.sigma,
    }
    final = done + 1 == config.num_generations
    if (done + 1) % config.eval_interval == 0 or final:
        held_out = [episode_seed("select", config.seed, i) for i in range(config.eval_episodes)]
        row["cma_mean"] = float(evaluator(search.mean[None], held_out, final=True).returns.mean())
    row["seconds"] = last["seconds"] + time.perf_counter() - began
    return row


def mean_ranks(returns: np.ndarray) -> np.ndarray:
    """The share of the others that a candidate beat less the share that beat it; mean over tracks.

    One wrecked lap costs hundreds of points, and a mean return of few tracks says little else than
    who was wrecked. A rank costs it no more than being slowest, and so hears what all the other
    laps have to say.

    Args:
        returns: (P, E), a row per candidate, a column per track.

    Returns:
        Fitness (P,), from -1 to 1; NaN where returns are.
    """
    beaten = np.sign(returns[:, None] - returns[None]).sum(axis=1) / max(1, len(returns) - 1)
    return np.asarray(beaten.mean(axis=1))


def _remember(state: dict[str, Any], tracks: list[dict[str, Any]], spreads: np.ndarray) -> None:
    """Keep how much candidates differed on each track, as long as it may come back."""
    known = {track["seed"]: track for track in state["tracks"]}
    for track, spread in zip(tracks, spreads, strict=True):
        known[track["seed"]] = track | {"spread": float(spread)}
    oldest = len(state["rows"]) + 1 - MEMORY
    state["tracks"] = [track for track in known.values() if track["generation"] >= oldest]


def _first_mean(path: Path, anew: bool, agent: Agent) -> np.ndarray:
    if path.exists() and not anew:
        return np.array(read_json(path, "settings", "rows", "fitness")["settings"]["start"])
    return np.zeros(len(flatten_parameters(agent.controller.parameters())))


def _axes(path: Path, config: WMControllerConfig, axes: Axes | None) -> Axes | None:
    """The axes of the recorded search, or those given for a new one, which are written down."""
    if config.coordinates == "weights":
        return None
    if (path.parent / "search.json").exists() and not config.noreload:
        return Axes.load(path)
    if axes is None:
        raise ValueError(
            'WMControllerConfig.coordinates is "axes", and there are none: hand them in as axes=…, '
            "as wmlib's command line does"
        )
    axes.save(path)
    return axes


def _resume(path: Path, settings: dict[str, Any], search: Search, anew: bool) -> dict[str, Any]:
    """The recorded state, with ``search`` replayed to where it was; or a fresh one."""
    if anew or not path.exists():
        return {"settings": settings, "rows": [], "fitness": [], "tracks": []}
    state: dict[str, Any] = read_json(path, "settings", "rows", "fitness")
    state.setdefault("tracks", [])  # searches recorded before tracks came back
    state["settings"].setdefault("coordinates", "weights")  # … or before there were others
    for key, value in settings.items():
        if state["settings"].get(key) != value:
            raise ValueError(
                f"{path} was recorded with {key} = {state['settings'].get(key)}, now {value}; "
                "give the old value to go on, or another logdir to begin anew"
            )
    for fitness in state["fitness"]:
        search.tell(np.array(fitness))
    return state


def _save(folder: Path, state: dict[str, Any], search: Search, agent: Agent, is_best: bool) -> None:
    """The mean as a checkpoint, the rows as CSV, and last the state that a resumed run reads."""
    rows: History = state["rows"]
    load_parameters(search.mean, agent.controller)
    weights = {
        "epoch": len(rows),
        "reward": rows[-1].get("cma_mean", rows[-1]["mean"]),
        "state_dict": agent.controller.state_dict(),
    }
    if is_best:
        save_checkpoint(folder / "best.tar", weights)
    save_checkpoint(folder / "checkpoint.tar", weights)
    with atomic_path(folder / "generations.csv") as temporary, temporary.open("w") as file:
        names = ("generation", "seconds", "env_steps", "mean", "best", "sigma", "cma_mean")
        table = csv.DictWriter(file, names, restval="", lineterminator="\n")
        table.writeheader()
        table.writerows({key: round(value, 4) for key, value in row.items()} for row in rows)
    write_json(folder / "search.json", state)


def _top(rows: History) -> float:
    """The best score of the CMA mean so far; -inf before the first, so that it is kept."""
    return max((row["cma_mean"] for row in rows if "cma_mean" in row), default=-math.inf)


def _local(config: WMControllerConfig, agent: Agent) -> LocalEvaluator:
    if config.evaluator != "local":
        raise ValueError(
            f"WMControllerConfig.evaluator is {config.evaluator!r}: hand one in as evaluator=…, as "
            "wmlib's command line does"
        )
    return LocalEvaluator(agent, config.env_name, **world_options(config))


def world_options(config: WMControllerConfig) -> dict[str, Any]:
    """What a configuration says of the world, as ``LocalEvaluator`` takes it."""
    names = ("time_limit", "patience", "step_cost", "backend", "max_workers")
    options = {name: getattr(config, name) for name in names}
    return options | {"env_kwargs": config.extra.get("env_kwargs")}
