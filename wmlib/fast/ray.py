"""More than one machine."""

from __future__ import annotations

import copy
import functools
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from wmlib.agent import Agent
from wmlib.checkpoints import atomic_path, check_room, locked
from wmlib.collect import FRAME_BYTES, WAVE, generate_rollouts, missing_rollouts, rollout_paths
from wmlib.envs import TIME_LIMIT
from wmlib.evaluators import LocalEvaluator, Scores

__all__ = ["RayEvaluator", "Workers", "collect_on_cluster"]

POLL = 5.0  # seconds between two looks at whether there are nodes left


class _Worker:
    """Lives on one node, and holds what was built there once."""

    def __init__(self, build: Callable[[], Callable[..., Any]], threads: int) -> None:
        torch.set_num_threads(threads)
        self.held = build()

    def call(self, *args: Any) -> Any:
        return self.held(*args)

    def close(self) -> None:
        getattr(self.held, "close", lambda: None)()


class Workers:
    """One worker on each node of a Ray cluster, or as many as wanted, spread over the nodes.

    When a node dies, Ray itself starts its worker again on another, and repeats there what it was
    at. So a call must give the same whenever it is made.

    Args:
        build: Makes, on the node, what is called there.
        count: Workers; 0 is one per node.
        timeout: Seconds without any result after which the work is given up.

    Raises:
        RuntimeError: If Ray is not installed, or its cluster has no node to work on.
    """

    def __init__(
        self, build: Callable[[], Callable[..., Any]], count: int = 0, timeout: float = 3600.0
    ) -> None:
        try:
            import ray.util.scheduling_strategies  # slow to import, and optional
        except ModuleNotFoundError as error:
            raise RuntimeError("a cluster needs Ray: pip install 'wmlib[ray]'") from error
        self.ray: Any = ray
        self.timeout = timeout
        if not ray.is_initialized():  # joins the cluster that RAY_ADDRESS names, or begins one here
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(log_to_driver=False, logging_level=logging.WARNING)
        nodes = self._nodes()
        places = list(itertools.islice(itertools.cycle(nodes), count or len(nodes)))
        self.build = ray.put(build)  # kept: an actor that is started again wants it again
        near = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        lasting = self.ray.remote(max_restarts=-1, max_task_retries=-1)(_Worker)
        self.workers = [
            lasting.options(scheduling_strategy=near(node, soft=True)).remote(
                self.build, threads=max(1, int(nodes[node]) // places.count(node))
            )
            for node in places
        ]

    def _nodes(self) -> dict[str, float]:
        """The cores of each node that can work."""
        alive = {n["NodeID"]: n["Resources"].get("CPU", 0) for n in self.ray.nodes() if n["Alive"]}
        nodes = {node: cores for node, cores in alive.items() if cores >= 1}
        if not nodes:
            raise RuntimeError(
                "no node of the Ray cluster is left to work on; what was finished is kept: start "
                "nodes, then run the same command again"
            )
        return nodes

    def map(self, calls: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Make all calls, spread over the workers.

        Yields:
            A call's number and its result, as they come in.

        Raises:
            RuntimeError: If a worker cannot be built, or there is no node left.
            TimeoutError: If nothing came in for too long.
        """
        waiting = {
            self.workers[i % len(self.workers)].call.remote(*args): i
            for i, args in enumerate(calls)
        }
        heard = time.monotonic()
        while waiting:
            done, _ = self.ray.wait(list(waiting), timeout=POLL)
            for reference in done:
                yield waiting.pop(reference), self._get(reference)
                heard = time.monotonic()
            if not done:
                self._nodes()
            if time.monotonic() - heard > self.timeout:
                raise TimeoutError(
                    f"{len(waiting)} of {len(calls)} parts did not come back from the Ray cluster "
                    f"within {self.timeout:.0f} s; what was finished is kept: look at `ray status`"
                )

    def _get(self, reference: Any) -> Any:
        """A result, or the error that the worker met."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self.ray.exceptions.RayActorError as error:
            raise RuntimeError(f"a worker of the Ray cluster failed: {error}") from error

    def close(self) -> None:
        """End the workers, and what they hold."""
        closing = [worker.close.remote() for worker in self.workers]
        self.ray.wait(closing, num_returns=len(closing), timeout=POLL)
        for worker in self.workers:
            self.ray.kill(worker)


class RayEvaluator:
    """Scores a population on a Ray cluster, each node a share of it: see ``LocalEvaluator``.

    ``wmlib`` must be installed on every node. A share whose node dies is scored again elsewhere.

    Args:
        agent: Acts for every candidate; sent to each node once.
        env_name: Gymnasium id or ``module:Id``.
        workers, timeout: See ``Workers``.
        options: Further arguments of ``LocalEvaluator``.
    """

    def __init__(
        self, agent: Agent, env_name: str, workers: int = 0, timeout: float = 3600.0, **options: Any
    ) -> None:
        build = functools.partial(
            _local_evaluator, _on(agent, "cpu"), str(agent.device), env_name, options
        )
        self.workers = Workers(build, workers, timeout)

    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        """See ``Evaluator``."""
        axis = int(len(seeds) > len(population))  # the longer one is cut: the mean plays alone
        count = min(len(self.workers.workers), max(len(seeds), len(population)))
        if axis == 0:
            calls = [(part, seeds, final) for part in np.array_split(population, count)]
        else:
            calls = [(population, part.tolist(), final) for part in np.array_split(seeds, count)]
        parts = dict(self.workers.map(calls))
        returns = np.concatenate([parts[i].returns for i in range(count)], axis)
        return Scores(returns, sum(part.steps for part in parts.values()))

    def close(self) -> None:
        """End the workers and their environments."""
        self.workers.close()


def _local_evaluator(
    agent: Agent, device: str, env_name: str, options: dict[str, Any]
) -> LocalEvaluator:
    return LocalEvaluator(_on(agent, device), env_name, **options)


def _on(agent: Agent, device: str) -> Agent:
    """A copy of the agent on another device, with no episodes begun."""
    vae, cell, controller = copy.deepcopy((agent.vae, agent.cell, agent.controller))
    return Agent(vae, cell, controller, agent.action_map.space, device, agent.sample_z)


def collect_on_cluster(
    data_dir: str | os.PathLike[str],
    env_name: str,
    num_rollouts: int = 1000,
    workers: int = 0,
    timeout: float = 3600.0,
    display: bool = True,
    **options: Any,
) -> list[Path]:
    """``generate_rollouts`` on a Ray cluster: the same files, written here.

    Args:
        data_dir: Folder for the files, on this machine.
        env_name: Gymnasium id or ``module:Id``.
        num_rollouts: How many files there shall be.
        workers, timeout: See ``Workers``.
        display: Show progress.
        options: Further arguments of ``generate_rollouts``.

    Returns:
        The paths of all ``num_rollouts`` files, in order.
    """
    files = rollout_paths(data_dir, range(num_rollouts))
    missing = missing_rollouts(files, env_name, options.get("seed", 0))
    if not missing:
        return list(files.values())
    steps = options.get("seq_len", TIME_LIMIT)
    check_room(data_dir, FRAME_BYTES * steps * len(missing), surely=False)
    collect = functools.partial(_collect, env_name, options)
    team = Workers(lambda: collect, workers, timeout)
    size = min(WAVE, -(-len(missing) // len(team.workers)))
    shards = [missing[first : first + size] for first in range(0, len(missing), size)]
    bar = tqdm(total=len(missing), desc="rollouts", unit="episode", disable=not display)
    try:
        with locked(data_dir):
            for number, contents in team.map([(shard,) for shard in shards]):
                for index, content in zip(shards[number], contents, strict=True):
                    with atomic_path(files[index]) as temporary:
                        temporary.write_bytes(content)
                    bar.update()
    finally:
        bar.close()
        team.close()
    return list(files.values())


def _collect(env_name: str, options: dict[str, Any], numbers: list[int]) -> list[bytes]:
    """The files of these numbers."""
    with tempfile.TemporaryDirectory() as folder:
        files = generate_rollouts(folder, env_name, part=numbers, display=False, **options)
        return [file.read_bytes() for file in files]
