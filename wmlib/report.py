"""What is published: every return, of every agent, on the same fresh tracks."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

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
        path: The report; rows that it has of the same weights on the same tracks are kept.
        backend, fast: See ``make_vector_env``.
        acting: Further arguments of ``Agent``: device, amp.
        options: Further arguments of ``evaluate``.

    Returns:
        The report's rows.
    """
    best = "V + M, the shipped agent"
    acting = {key: value for key, value in (acting or {}).items() if key != "sample_z"}
    titles = {name: title for name, (title, _) in VARIANTS.items() if name in world.controllers}
    agents: list[tuple[str, str, Any]] = [("random policy", fast, "random")]
    agents += [(title, fast, world.agent(name, **acting)) for name, title in titles.items()]
    agents += [
        (best, fast, world.agent(**acting)),
        (f"{best}, z sampled", fast, world.agent(sample_z=True, **acting)),
        (best, backend, world.agent(**acting)),
    ]
    origin = _fingerprint(world, options)
    rows: list[dict[str, Any]] = []
    if path.exists():
        report = read_json(path, "rows")
        rows = report["rows"] if report.get("origin") == origin else []
    for name, where, agent in agents[len(rows) :]:
        rows.append(evaluate(agent, name=name, backend=where, **options))
        write_json(path, {"origin": origin, "rows": rows})
    return rows


def _fingerprint(world: WorldModel, options: dict[str, Any]) -> str:
    """Changes whenever the weights or the tracks do: older rows are of another report."""
    digest = hashlib.sha256(str([options.get(key) for key in ("episodes", "seed")]).encode())
    for model in (world.vae, world.mdrnn, *world.controllers.values(), *world.memories.values()):
        for value in model.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
