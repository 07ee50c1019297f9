"""A real Ray cluster of several nodes on this machine, some of which are killed at work."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wmlib import Agent, Controller, ConvVAE, LocalEvaluator, MDRNNCell, generate_rollouts, make_env
from wmlib.fast.ray import RayEvaluator, Workers, collect_on_cluster

SLEEPY = "sleepy_env:Sleepy-v0"
L, H, SEEDS, NODES = 4, 8, [5, 6], 3


class Machines:
    """The cluster's nodes; the driver's own has no core to work with."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80 * 2**20}
        soon = {"health_check_period_ms": 1000, "health_check_timeout_ms": 2000}
        head = {"num_cpus": 0, "_system_config": soon, **small}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.cluster.add_node(num_cpus=1, **small) for _ in range(NODES)]
        self.cluster.connect()

    def kill_one(self) -> None:
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def shutdown(self) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("WMLIB_BF16", "0")  # the nodes' batches are others than this process's
        machines = Machines()
        try:
            yield machines
        finally:
            machines.shutdown()


@pytest.fixture(scope="module")
def agent() -> Agent:
    torch.manual_seed(0)
    space = make_env("counting_env:Counting-v0").action_space
    return Agent(ConvVAE(3, L), MDRNNCell(L, 2, H, 2), Controller(L, H, 2), space)


@pytest.fixture(scope="module")
def population() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 2 * (L + H) + 2))


def sleepy(marks: Path, pause: float = 0.0) -> dict[str, Any]:
    return {"pause": pause, "marks": str(marks), "length": 40}


def while_at_work(marks: Path, episodes: int, act: Callable[[], None]) -> threading.Thread:
    """Do something as soon as so many episodes have begun."""

    def wait() -> None:
        limit = time.monotonic() + 120
        while len(list(marks.iterdir())) < episodes and time.monotonic() < limit:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def where(_: int) -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


@pytest.mark.slow
def test_there_is_a_worker_on_every_node(machines: Machines) -> None:
    team = Workers(lambda: where, timeout=120)
    try:
        assert len({node for _, node in team.map([(i,) for i in range(NODES)])}) == NODES
    finally:
        team.close()


@pytest.mark.slow
def test_a_node_that_dies_has_its_share_evaluated_elsewhere(
    machines: Machines, agent: Agent, population: np.ndarray, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    local = LocalEvaluator(agent, SLEEPY, max_workers=2, env_kwargs=sleepy(marks))
    ray = RayEvaluator(
        agent, SLEEPY, timeout=120, max_workers=1, env_kwargs=sleepy(marks, pause=0.05)
    )
    try:
        wanted = local(population, SEEDS)
        alone = local(population[:1], SEEDS)
        for mark in marks.iterdir():
            mark.unlink()
        killer = while_at_work(marks, NODES, machines.kill_one)  # each node is at its first episode
        found = ray(population, SEEDS)
        killer.join()
        np.testing.assert_array_equal(found.returns, wanted.returns)
        assert found.steps == wanted.steps
        assert len(list(marks.iterdir())) > found.returns.size  # some began twice
        # The next generation, and the mean alone, whose episodes are shared out instead.
        np.testing.assert_array_equal(ray(population[:1], SEEDS).returns, alone.returns)
    finally:
        local.close()
        ray.close()


@pytest.mark.slow
def test_collection_survives_a_node_too(machines: Machines, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    options = {"num_rollouts": 7, "seq_len": 30, "policy": "held", "num_workers": 1, "seed": 3}
    wanted = generate_rollouts(
        tmp_path / "here", SLEEPY, env_kwargs=sleepy(marks), display=False, **options
    )
    for mark in marks.iterdir():
        mark.unlink()
    folder = tmp_path / "there"
    folder.mkdir()
    shutil.copy(wanted[2], folder)
    kept = (folder / wanted[2].name).stat().st_mtime_ns
    killer = while_at_work(marks, 2, machines.kill_one)
    slow = sleepy(marks, pause=0.05)
    found = collect_on_cluster(
        folder, SLEEPY, env_kwargs=slow, timeout=120, display=False, **options
    )
    killer.join()
    assert [path.name for path in found] == [path.name for path in wanted]
    assert found[2].stat().st_mtime_ns == kept
    assert [path.read_bytes() for path in found] == [path.read_bytes() for path in wanted]


@pytest.mark.slow
def test_an_error_on_a_node_is_the_callers(machines: Machines, agent: Agent) -> None:
    evaluator = RayEvaluator(agent, "NoSuchWorld-v7", timeout=120)
    try:
        with pytest.raises(ValueError, match=r"^environment 'NoSuchWorld-v7' cannot be made"):
            evaluator(np.zeros((1, 26)), [1])
    finally:
        evaluator.close()


@pytest.mark.slow
def test_a_worker_that_cannot_be_built_says_why(machines: Machines) -> None:
    team = Workers(lambda: {}["nothing"], timeout=120)
    try:
        with pytest.raises(RuntimeError, match=r"a worker of the Ray cluster failed(.|\n)*nothing"):
            list(team.map([()]))
    finally:
        team.close()


@pytest.mark.slow
def test_work_that_never_comes_back_is_given_up(machines: Machines) -> None:
    team = Workers(lambda: time.sleep, timeout=1)
    try:
        with pytest.raises(TimeoutError, match="1 of 1 parts did not come back"):
            list(team.map([(600,)]))
    finally:
        team.close()


@pytest.mark.slow
def test_without_a_node_left_it_ends_in_a_sentence(machines: Machines) -> None:
    """The last test of this cluster."""
    team = Workers(lambda: time.sleep, timeout=600)

    def kill_all() -> None:
        while machines.nodes:
            machines.kill_one()

    killer = threading.Timer(1, kill_all)
    killer.start()
    with pytest.raises(RuntimeError, match="no node of the Ray cluster is left"):
        list(team.map([(600,)]))
    killer.join()
    team.close()


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match=r"pip install 'wmlib\[ray\]'"):
        Workers(lambda: where)
