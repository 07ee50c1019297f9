"""How cost grows: with the population, the dream, the data, and the cluster."""

import importlib.util
from typing import Any

from measure import CPU
from rows import ENV, Bench

from wmlib import LocalEvaluator

Points = list[dict[str, float]]


def growth(bench: Bench, tiny: bool = False) -> dict[str, Points]:
    """All curves; without Ray its points are missing."""
    workers = [] if tiny or importlib.util.find_spec("ray") is None else [1, 2, 3, 4]
    return {
        "population": population(bench, [2, 4] if tiny else [16, 32, 64, 128, 256]),
        "dream_rows": dream_rows(bench, [64, 128] if tiny else [64, 256, 1024, 4096, 16384]),
        "rollouts": rollouts(bench, [2, 4] if tiny else [10, 30, 100, 300, 1000]),
        "ray_workers": ray_workers(bench, workers),
    }


def point(x: int, steps: float, rate: float) -> dict[str, float]:
    return {"x": x, "cost": steps / rate, "rate": rate}


def population(bench: Bench, sizes: list[int]) -> Points:
    """Seconds of a generation in the world, an episode of 100 steps for each candidate."""
    points, agent = [], bench.world.agent(device="cpu")
    evaluator = LocalEvaluator(agent, ENV, time_limit=100)
    for size in sizes:
        rate = bench.generation(evaluator, size, 1)
        points.append(point(size, size * 100, rate))
    evaluator.close()
    return points


def dream_rows(bench: Bench, sizes: list[int]) -> Points:
    """Seconds of a step of all dreams."""
    rates = {size: bench.dream(CPU, "dream", None, size).value for size in sizes}
    return [point(size, size, float(rate)) for size, rate in rates.items()]


def rollouts(bench: Bench, counts: list[int]) -> Points:
    """Memory, in gigabytes, of reading shuffled frames; and their rate."""
    found = {count: bench.read(count) for count in counts}
    return [{"x": n, "cost": r["gigabytes"], "rate": r["rate"]} for n, r in found.items()]


def ray_workers(bench: Bench, counts: list[int]) -> Points:
    """Seconds of a generation on a Ray cluster of four nodes, which share this machine."""
    if not counts:
        return []
    import ray
    from ray.cluster_utils import Cluster

    from wmlib.fast.ray import RayEvaluator

    memory: dict[str, Any] = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **memory})
    points = []
    try:
        for _ in range(max(counts)):
            cluster.add_node(num_cpus=1, **memory)
        cluster.connect()
        for count in counts:
            agent = bench.world.agent(device="cpu")
            evaluator = RayEvaluator(agent, ENV, count, timeout=300, time_limit=100)
            bench.generation(evaluator, count, 1)  # starts every worker
            points.append(point(count, 32 * 100, bench.generation(evaluator, 32, 1)))
            evaluator.close()
    finally:
        ray.shutdown()
        cluster.shutdown()
    return points
