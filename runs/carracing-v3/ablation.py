"""Does M help? Three kinds of agent, many searches of each, on equal terms."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from axes import Axes
from imitation import input_moments
from rows import drive, seeds_row
from torch import Tensor

from wmlib.agent import Agent
from wmlib.checkpoints import load_checkpoint, read_json, write_json
from wmlib.config import WMControllerConfig
from wmlib.controller import Controller, load_parameters
from wmlib.envs import episode_seed
from wmlib.evolution import train_controller
from wmlib.mdrnn import MDRNN
from wmlib.world import WorldModel, round_as_shipped

# Each arm's name in a report, and how many times M's hidden units C sees.
ARMS = {"z": ("V only, z", 0), "untrained": ("V + untrained M", 1), "z_h": ("V + M, z and h", 1)}
CONTRASTS = (("z_h", "z"), ("z_h", "untrained"))
DRAWS = 20_000  # of the bootstrap


LESIONS = ("h at zero", "h of another lap")


class Lesioned(Agent):
    """An agent whose C is shown a wrong h; M itself goes on as ever.

    Args:
        lesion: One of ``LESIONS``. Another lap's h is that of the next episode in the batch.
        world: V, M and C.
    """

    def __init__(self, lesion: str, world: WorldModel) -> None:
        super().__init__(world.vae, world.cell, world.controller, world.space())
        self.lesion = lesion

    def decide(self, z: Tensor, hidden: Sequence[Tensor], flat: Tensor | None = None) -> Tensor:
        """C's decision (n, A) for z (n, L) and what is done to h (n, H); see ``Agent``."""
        h, *rest = hidden
        h = torch.zeros_like(h) if self.lesion == LESIONS[0] else h.roll(1, dims=0)
        return super().decide(z, (h, *rest), flat)


class Enough(Exception):
    """A search has had its environment steps."""


def ablate(
    folder: Path, world: WorldModel, files: list[Path], recipe: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Evolve C from zeros for each arm and seed, and test them all on the same tracks.

    Arms differ in what C sees and in nothing else: the searches of one seed draw the same noise,
    drive the same tracks, take the same number of environment steps, and begin with the same change
    of C's outputs, for they walk along the axes of their own inputs. An untrained M is another one
    for each seed. A search is what is drawn here, so ten of an arm are ten pairs: at the 177 points
    between searches that three seeds once showed, they find a difference of 220 in four of five
    cases, and a smaller one only if pairs agree better than that.

    Args:
        folder: For the searches, their laps and ``report.json``.
        world: V and M.
        files: Rollouts that show how C's inputs vary.
        recipe: ``seeds``, ``env_steps``, ``tracks``, and ``ctrl``: fields of the configuration.
        seed: Of *evaluate*: the tracks.

    Returns:
        ``rows``, one for each arm, and ``contrasts``; see ``contrasts``.
    """
    config = WMControllerConfig(**recipe["ctrl"])
    tracks = [episode_seed("evaluate", seed, i) for i in range(recipe["tracks"])]
    rows, returns = [], {}
    for arm, (name, _) in ARMS.items():
        laps, steps = [], []
        for number in range(recipe["seeds"]):
            place = folder / f"{arm}_{number}"
            agent = arm_agent(world, arm, number)
            _search(place, agent, config, number, files, recipe["env_steps"])
            state = load_checkpoint(place / "ctrl" / "checkpoint.tar")["state_dict"]
            agent.controller.load_state_dict(state)
            limit, path = config.time_limit, place / "laps.json"
            laps.append(drive(path, agent, config.env_name, tracks, "auto", limit))
            recorded = read_json(place / "ctrl" / "search.json", "rows")["rows"]
            steps.append(int(recorded[-1]["env_steps"]))
        returns[arm] = np.array([part["returns"] for part in laps])
        game = laps[0]["backend"]
        rows.append(seeds_row(name, config.env_name, game, seed, returns[arm], steps))
    report = {"rows": rows, "contrasts": contrasts(returns)}
    write_json(folder / "report.json", report)
    return report


def arm_agent(world: WorldModel, arm: str, seed: int) -> Agent:
    """An arm's agent, C at zero; an untrained M is drawn from the seed and rounded as it ships."""
    m = world.mdrnn
    if arm == "untrained":
        torch.manual_seed(seed)
        m = MDRNN(m.latents, m.actions, m.hiddens, m.gaussians)
        round_as_shipped(m)
    controller = Controller(world.vae.latent_size, ARMS[arm][1] * m.hiddens, m.actions)
    load_parameters(np.zeros(sum(p.numel() for p in controller.parameters())), controller)
    return Agent(world.vae, m.to_cell(), controller, world.space())


def _search(
    place: Path, agent: Agent, config: WMControllerConfig, seed: int, files: list[Path], steps: int
) -> None:
    """C from zeros until the environment steps are spent; goes on where it was."""
    path = place / "ctrl" / "search.json"
    if path.exists() and read_json(path, "rows")["rows"][-1]["env_steps"] >= steps:
        return
    if not (place / "axes.npz").exists():
        Axes.of(input_moments(agent, files)).save(place / "axes.npz")

    def stop(row: dict[str, float]) -> None:
        if row["env_steps"] >= steps:
            raise Enough

    assert isinstance(agent.controller, Controller)
    sees = agent.controller.fc.in_features - config.latent_size
    own = {"logdir": str(place), "seed": seed, "hidden_size": sees, "num_generations": 10**6}
    settings, axes = WMControllerConfig(**(config.to_dict() | own)), Axes.load(place / "axes.npz")
    with contextlib.suppress(Enough):
        train_controller(settings, agent, axes=axes, on_generation=stop)


def contrasts(returns: dict[str, np.ndarray], seed: int = 0) -> list[dict[str, Any]]:
    """What h brings, against z alone and against the h of an untrained M.

    Differences are taken in pairs, search by search and track by track. The bootstrap draws
    searches, and then tracks, which all searches of a draw share, as they did on the road. Two
    questions are asked, so p is corrected for two (Holm).

    Args:
        returns: (N, E) of each arm.
        seed: Of the bootstrap.

    Returns:
        A row per question: ``agent``, ``against``, ``difference``, its 95 % ``interval``, ``p`` and
        ``p_holm``, ``seeds``.
    """
    rng, found = np.random.default_rng(seed), list[dict[str, Any]]()
    for arm, other in CONTRASTS:
        difference = returns[arm] - returns[other]  # (N, E)
        searches, tracks = (rng.integers(n, size=(DRAWS, n)) for n in difference.shape)
        pairs = zip(searches, tracks, strict=True)
        drawn = np.array([difference[np.ix_(rows, columns)].mean() for rows, columns in pairs])
        beyond = min((drawn <= 0).mean(), (drawn >= 0).mean())
        found.append(
            {
                "agent": ARMS[arm][0],
                "against": ARMS[other][0],
                "difference": round(float(difference.mean()), 3),
                "interval": [round(float(q), 3) for q in np.quantile(drawn, (0.025, 0.975))],
                "p": min(1.0, 2 * max(float(beyond), 1 / DRAWS)),
                "seeds": len(difference),
            }
        )
    for row, corrected in zip(found, holm([float(row["p"]) for row in found]), strict=True):
        row["p_holm"] = corrected
    return found


def holm(p: list[float]) -> list[float]:
    """p-values corrected for their number: Holm (1979), step down."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate([p[i] * (len(p) - rank) for rank, i in enumerate(order)])
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in corrected]
