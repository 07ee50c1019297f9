"""What is published: every return, of every agent, on the same fresh tracks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from wmlib.agent import Agent
from wmlib.checkpoints import read_json, write_json
from wmlib.evaluation import evaluate
from wmlib.policies import Policy
from wmlib.presets import VARIANTS
from wmlib.pretrained import WorldModel, load_trained

__all__ = ["score", "score_all", "test_trained_model"]


def test_trained_model(
    logdir: str,
    env_name: str = "CarRacing-v3",
    episodes: int = 100,
    seed: int = 0,
    report: str | None = None,
    search: str = "ctrl",
    acting: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Score random play, the agent that a run left in ``logdir``, and its variants if it has any.

    Args:
        logdir: Holds ``vae``, ``mdrnn`` and ``ctrl``.
        env_name: Gymnasium id or ``module:Id``.
        episodes: Fresh episodes for each of the two.
        seed: Which tracks.
        report: JSON file for the rows.
        search: Folder of C below the logdir, where there are several.
        acting: Further arguments of ``Agent``: device, sample_z, amp.
        options: Further arguments of ``evaluate``.

    Returns:
        ``{"rows": [random, …, agent]}``.
    """
    env_kwargs = options.get("env_kwargs") or {}
    world = load_trained(logdir, search, env_name=env_name, env_kwargs=env_kwargs)
    if report and len(world.controllers) > 1:
        options |= {"env_name": env_name, "episodes": episodes, "seed": seed}
        return {"rows": score_all(world, Path(report), acting=acting, **options)}
    return score(
        {"random": "random", "agent": world.agent(**(acting or {}))},
        report,
        env_name=env_name,
        episodes=episodes,
        seed=seed,
        **options,
    )


def score(agents: dict[str, Policy | str], report: str | None, **options: Any) -> dict[str, Any]:
    """A report with a row for each agent, all on the same fresh tracks."""
    rows = [evaluate(agent, name=name, **options) for name, agent in agents.items()]
    if report:
        write_json(report, {"rows": rows})
    return {"rows": rows}


def score_all(
    world: WorldModel,
    path: Path,
    backend: str = "gymnasium",
    fast: str = "auto",
    acting: dict[str, Any] | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    """Every row of the ablation table, each written as soon as it is known.

    All drive on the fast backend, so that they can be compared with each other; the shipped agent
    then drives on the other one too, whose score is the one that counts.

    Args:
        world: With the controllers of all variants.
        path: The report; a row that it has of the same weights on the same tracks is kept.
        backend, fast: See ``make_vector_env``.
        acting: Further arguments of ``Agent``: device, amp.
        options: Further arguments of ``evaluate``.

    Returns:
        The report's rows.
    """
    best = "V + M, the shipped agent"
    acting = {key: value for key, value in (acting or {}).items() if key != "sample_z"}
    titles = {name: title for name, (title, _) in VARIANTS.items() if name in world.controllers}
    agents: list[tuple[str, str, Policy | str]] = [("random policy", fast, "random")]
    agents += [(title, fast, world.agent(name, **acting)) for name, title in titles.items()]
    agents += [
        (best, fast, world.agent(**acting)),
        (f"{best}, z sampled", fast, world.agent(sample_z=True, **acting)),
        (best, backend, world.agent(**acting)),
    ]
    origins = [_fingerprint(*which, options) for which in agents]
    rows = read_json(path, "rows")["rows"] if path.exists() else []
    known = {row.get("origin"): row for row in rows}
    for (name, where, agent), origin in zip(agents, origins, strict=True):
        if origin not in known:
            row = evaluate(agent, name=name, backend=where, **options)
            known[origin] = row | {"origin": origin}
        rows = [known[other] for other in origins if other in known]
        write_json(path, {"rows": rows})
    return rows


def _fingerprint(name: str, where: str, agent: Policy | str, options: dict[str, Any]) -> str:
    """Another one for other weights, tracks or words: such a row is measured again."""
    tracks = [options.get(key) for key in ("env_name", "episodes", "seed")]
    digest = hashlib.sha256(str([name, where, *tracks]).encode())
    if isinstance(agent, Agent):
        for model in (agent.vae, agent.cell, agent.controller):
            for value in model.state_dict().values():
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
