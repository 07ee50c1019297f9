"""Nodes and workers of a real Ray cluster are killed while a search or a collection is at work.

All of it runs in one child: a process that has talked to Ray cannot be forked any more.
"""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kills import Case
from tiny import ROOT, Bench, Settings, agent, contents, within

from wmlib import WMControllerConfig, generate_rollouts, train_controller
from wmlib.evaluators import Evaluator, LocalEvaluator

SLEEPY = "sleepy_env:Sleepy-v0"
NODES, SAMPLES, POPULATION, GENERATIONS = 2, 2, 4, 2
TRIALS = 4  # at starting a node
MARK = "WMLIB_FAULTS_CLUSTER"  # in the environment of every process of this cluster
DEEDS = ("a worker is killed", "a node is killed", "all nodes are killed", "a node, collecting")


def _patiently(begin: Callable[[], Any]) -> Any:
    """A node: on a busy machine it may need more time than the half minute that Ray gives it."""
    for _ in range(TRIALS):
        try:
            return begin()
        except Exception as error:  # Ray's own is of no finer kind
            last = error
    raise last


class Cluster:
    """Nodes on this machine, with a core each; the driver's own has none to work with."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        self.small = {"object_store_memory": 80 * 2**20}
        soon = {"health_check_period_ms": 1000, "health_check_timeout_ms": 5000}
        head = {"num_cpus": 0, "_system_config": soon, **self.small}
        self.cluster, self.nodes = _patiently(lambda: Nodes(True, head_node_args=head)), []
        self.fill()
        self.cluster.connect()

    def fill(self) -> None:
        """As many nodes as there were."""
        while len(self.nodes) < NODES:
            self.nodes.append(_patiently(lambda: self.cluster.add_node(num_cpus=1, **self.small)))

    def kill_node(self) -> None:
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)

    def kill_all(self) -> None:
        while self.nodes:
            self.kill_node()

    def kill_worker(self) -> None:
        """SIGKILL to a process of ours that holds an evaluator."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                title, home = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:  # it is gone, or not ours
                continue
            if b"ray::_Worker" in title and f"{MARK}={os.environ[MARK]}".encode() in home:
                os.kill(int(entry.name), signal.SIGKILL)
                return

    def close(self) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()


def _while_at_work(marks: Path, episodes: int, deed: Callable[[], None]) -> threading.Thread:
    """Do it as soon as so many episodes have begun."""

    def wait() -> None:
        limit = time.monotonic() + 60
        while len(list(marks.iterdir())) < episodes and time.monotonic() < limit:
            time.sleep(0.01)
        deed()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def _search(folder: Path, straight: Path, evaluator: Evaluator) -> None:
    """A search for C with the straight run's V and M."""
    for stage in ("vae", "mdrnn"):
        if not (folder / stage).exists():
            shutil.copytree(straight / stage, folder / stage)
    driver = agent(folder, Settings())
    config = WMControllerConfig(
        driver.vae.latent_size, driver.cell.hiddens, 2, SLEEPY, str(folder), n_samples=SAMPLES,  # type: ignore[arg-type]
        pop_size=POPULATION, num_generations=GENERATIONS, display=False, time_limit=20,
        evaluator="ray",
    )  # fmt: skip
    train_controller(config, driver, evaluator)


def _options(marks: Path, pause: float) -> dict[str, Any]:
    world = {"pause": pause, "marks": str(marks)}
    return {"time_limit": 20, "max_workers": 1, "env_kwargs": world}


def _campaign(bench: Bench, cases: int) -> list[Case]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # A busy machine starts nodes slowly. (Ray reads small letters.)
    os.environ["RAY_agent_register_timeout_ms"] = "100000"  # noqa: SIM112
    os.environ["WMLIB_BF16"] = "0"  # the nodes' batches are others than this process's
    os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT / 'tests'}"
    os.environ[MARK] = str(bench.home)
    from wmlib.fast.ray import RayEvaluator, collect_on_cluster

    marks = bench.home / "marks"
    marks.mkdir()
    straight = bench.home / "ray_straight"
    driver = agent(bench.straight, Settings())
    local = LocalEvaluator(driver, SLEEPY, **_options(marks, 0))
    _search(straight, bench.straight, local)
    wanted = contents(straight)
    begun = len(list(marks.iterdir()))
    collected: dict[str, Any] = {
        "num_rollouts": 6, "seq_len": 20, "policy": "held", "num_workers": 1, "seed": 3,
    }  # fmt: skip
    generate_rollouts(
        bench.home / "ray_data", SLEEPY, display=False, **collected,
        env_kwargs=_options(marks, 0)["env_kwargs"],
    )  # fmt: skip
    files = contents(bench.home / "ray_data")
    cluster, found = Cluster(), list[Case]()
    deeds = (cluster.kill_worker, cluster.kill_node, cluster.kill_all, cluster.kill_node)
    for number in range(cases):
        cluster.fill()
        shutil.rmtree(marks)
        marks.mkdir()
        folder, options = bench.fresh(), _options(marks, 0.03)
        collecting = number % len(DEEDS) == 3
        moment = int(bench.rng.integers(1, 5 if collecting else begun * 3 // 4))
        killer = _while_at_work(marks, moment, deeds[number % len(DEEDS)])
        name, problem = f"{DEEDS[number % len(DEEDS)]}, after {moment} episodes", ""
        try:
            if collecting:
                collect_on_cluster(
                    folder, SLEEPY, timeout=120, display=False, **collected,
                    env_kwargs=options["env_kwargs"],
                )  # fmt: skip
            else:
                _on_cluster(folder, bench.straight, RayEvaluator, options)
        except RuntimeError as error:
            problem = "" if "no node of the Ray cluster is left" in str(error) else repr(error)
        killer.join()
        cluster.fill()
        if not problem and not collecting:  # where all nodes were gone: the same command again
            _on_cluster(folder, bench.straight, RayEvaluator, options)
        if not problem and contents(folder) != (files if collecting else wanted):
            problem = "another result"
        found.append((name, problem))
    cluster.close()
    return found


def _on_cluster(folder: Path, straight: Path, make: Any, options: dict[str, Any]) -> None:
    evaluator = make(agent(straight, Settings()), SLEEPY, timeout=120, **options)
    try:
        _search(folder, straight, evaluator)
    finally:
        evaluator.close()


def ray_nodes(bench: Bench, cases: int) -> Iterator[Case]:
    """Results equal the straight run's, or one sentence says that no node is left."""
    outcome = within(lambda: _campaign(bench, cases))
    if outcome.kind != "done":
        yield "the campaign itself", f"{outcome.kind}: {outcome.text}"
        return
    yield from outcome.value
