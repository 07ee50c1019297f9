"""Did it work, and would we know?"""

from typing import Any

import numpy as np
from tqdm.auto import tqdm

from wmlib.agent import Agent
from wmlib.checkpoints import versions, write_json
from wmlib.devices import hardware
from wmlib.envs import TIME_LIMIT, episode_seed
from wmlib.evaluators import play_returns
from wmlib.policies import Policy, make_policy
from wmlib.vector_envs import make_vector_env
from wmlib.world import load_trained


def evaluate(
    agent: Policy | str, env_name: str = "CarRacing-v3", episodes: int = 100, seed: int = 0,
    time_limit: int = TIME_LIMIT, backend: str = "gymnasium", max_workers: int = 32,
    env_kwargs: dict[str, Any] | None = None, name: str = "agent", display: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Full episodes on fresh tracks, none of which was ever trained or selected on.

    Args:
        agent: An ``Agent``, or any policy of ``make_policy``.
        episodes, seed: How many, and which tracks.
        time_limit: Longest episode in steps.
        backend: Gymnasium's own environment by default: it is what a score is about.
        env_name, max_workers, env_kwargs: See ``make_vector_env``.
        name: What the row is called.
        display: Show progress.

    Returns:
        A row for a report: every return, ``mean``, ``std``, ``ci95`` (half the width of the
        normal 95 % interval of the mean), and what it was measured with.

    Raises:
        ValueError: If there is nothing to play, or the agent acts in another action space.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, found {episodes}")
    envs = make_vector_env(env_name, episodes, backend, max_workers, env_kwargs)
    seeds = [episode_seed("evaluate", seed, i) for i in range(episodes)]
    bar = tqdm(total=episodes, desc="evaluation", unit="episode", disable=not display)
    try:
        policy = make_policy(agent, envs.action_space, time_limit)
        if isinstance(agent, Agent) and agent.action_map.space != envs.action_space:
            raise ValueError(
                f"the agent acts in {agent.action_map.space}, {env_name} wants "
                f"{envs.action_space}: evaluate it where it was trained"
            )
        waves = -(-episodes // envs.rows)
        parts = [
            play_returns(envs, policy, list(wave), time_limit, on_end=bar.update)[0]
            for wave in np.array_split(np.array(seeds), waves)
        ]
    finally:
        bar.close()
        envs.close()
    row = {"agent": name, "env_id": env_name, "backend": envs.backend, "seed": seed}
    return row | summarise(np.concatenate(parts))


def summarise(returns: np.ndarray) -> dict[str, Any]:
    """A report's row of returns (N,): statistics (of one episode no spread), and the machine."""
    count = len(returns)
    std = float(returns.std(ddof=1)) if count > 1 else None  # one says nothing about the noise
    return {
        "episodes": count,
        "mean": round(float(returns.mean()), 3),
        "std": None if std is None else round(std, 3),
        "ci95": None if std is None else round(1.96 * std / count**0.5, 3),
        "returns": [round(float(value), 3) for value in returns],
        "versions": versions(),
        "hardware": hardware(),
    }


def score(agents: dict[str, Policy | str], report: str | None, **options: Any) -> dict[str, Any]:
    """A report with a row for each agent, by name, all on the same fresh tracks.

    Args:
        agents: Whom to evaluate.
        report: JSON file for the rows; none by default.
        options: Further arguments of ``evaluate``.

    Returns:
        ``{"rows": [...]}``.
    """
    rows = [evaluate(agent, name=name, **options) for name, agent in agents.items()]
    if report:
        write_json(report, {"rows": rows})
    return {"rows": rows}


def test_trained_model(
    logdir: str, env_name: str | None = None, episodes: int = 100, seed: int = 0,
    report: str | None = None, acting: dict[str, Any] | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Score random play, and beside it the agent that a training left in ``logdir``.

    Args:
        logdir: Holds ``vae``, ``mdrnn`` and ``ctrl``.
        env_name: Gymnasium id or ``module:Id``; by default what it was trained in.
        episodes, seed: How many fresh episodes for each of the two, and which tracks.
        report: JSON file for the rows.
        acting: Further arguments of ``Agent``: device, sample_z.
        options: Further arguments of ``evaluate``.

    Returns:
        ``{"rows": [random, agent]}``.
    """
    given = {"env_name": env_name, "env_kwargs": options.get("env_kwargs")}
    world = load_trained(logdir, **{key: value for key, value in given.items() if value})
    options |= {"env_name": world.env_name, "env_kwargs": world.env_kwargs}
    agents: dict[str, Policy | str] = {"random": "random", "agent": world.agent(**(acting or {}))}
    return score(agents, report, episodes=episodes, seed=seed, **options)
