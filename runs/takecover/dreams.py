"""Ways to dream: what C is shown, and what M forgets on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wmlib.agent import Agent
from wmlib.controller import Controller, flatten_parameters, load_parameters
from wmlib.devices import quicken
from wmlib.dream import Dream
from wmlib.evaluators import DreamEvaluator
from wmlib.mdrnn import MDRNN, MDRNNCell
from wmlib.rollouts import Rollout
from wmlib.world import WorldModel, round_as_shipped

SEES = {"z, h and c": 2, "z": 0, "h and c of an untrained M": 2}  # how many of h and c


@dataclass(frozen=True)
class Way:
    """How C dreams in one search.

    Attributes:
        tau: The dream's temperature.
        sees: What C is shown, one of ``SEES``.
        dropout: The share of h that M's prediction does without, another one at each step (Wellmer
            and Kwok 2021 drop more than that).
        again: M has watched C's own games as well.
    """

    tau: float
    sees: str = "z, h and c"
    dropout: float = 0.0
    again: bool = False

    @property
    def name(self) -> str:
        """The folder of its search."""
        parts = ["again" * self.again, "ctrl", f"{self.tau:g}"]
        parts += [{"z": "z", "h and c of an untrained M": "untrained"}.get(self.sees, "")]
        parts += [f"dropout-{self.dropout:g}" if self.dropout else ""]
        return "-".join(part for part in parts if part)

    @property
    def caption(self) -> str:
        """What a report calls its agent."""
        more = f", dropout {self.dropout:g}" if self.dropout else ""
        seen = "" if self.sees == "z, h and c" else f" and sees {self.sees}"
        own = ", in an M that knows its own games" if self.again else ""
        return f"V + M, C from dreams at τ = {self.tau:g}{more}{own}{seen}"


class Forgetful:
    """M's cell, with a part of h left out of every prediction.

    Args:
        cell: M's.
        share: How much of h is set to zero; the rest is scaled up.
    """

    def __init__(self, cell: MDRNNCell, share: float) -> None:
        self.cell, self.share = cell, share
        self.gaussians, self.latents, self.mixture = cell.gaussians, cell.latents, cell.mixture

    def watch(self, actions: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """See ``MDRNNCell``; what is forgotten from now on is the same in every batch of dreams."""
        self.luck = torch.Generator(latents.device).manual_seed(0)
        return self.cell.watch(actions, latents)

    def __call__(self, action: Tensor, z: Tensor, hidden: Any) -> tuple[Any, ...]:
        """See ``MDRNNCell``."""
        h, c = self.cell.step(action, z, hidden)
        kept = torch.empty_like(h).bernoulli_(1 - self.share, generator=self.luck)
        return *self.cell.head(h * kept / (1 - self.share)), (h, c)


class Beside:
    """M's cell, which dreams, and beside it another, whose h and c come first: C is shown those."""

    def __init__(self, dreaming: MDRNNCell, shown: MDRNNCell) -> None:
        self.dreaming, self.shown = dreaming, shown
        self.gaussians, self.latents = dreaming.gaussians, dreaming.latents
        self.mixture = dreaming.mixture

    def watch(self, actions: Tensor, latents: Tensor) -> tuple[Tensor, ...]:
        """See ``MDRNNCell``."""
        return *self.shown.watch(actions, latents), *self.dreaming.watch(actions, latents)

    def __call__(self, action: Tensor, z: Tensor, hidden: Any) -> tuple[Any, ...]:
        """See ``MDRNNCell``."""
        shown = self.shown.step(action, z, hidden[:2])
        *prediction, own = self.dreaming(action, z, hidden[2:])
        return *prediction, (*shown, *own)


class WideDream(Dream):
    """A dream with the hidden states of two cells."""

    def keep(self, rows: Tensor) -> None:
        """See ``Dream``."""
        hidden = self.hidden
        super().keep(rows)
        self.hidden = tuple(part[rows] for part in hidden)  # type: ignore[assignment]


def agent_of(way: Way, world: WorldModel, device: str = "cuda") -> Agent:
    """The agent of a search, C at zero: what acts in the game, too."""
    m = world.mdrnn
    if "untrained" in way.sees:
        torch.manual_seed(0)
        m = MDRNN(m.latents, m.actions, m.hiddens, m.gaussians, m.mixture)
        round_as_shipped(m)
    controller = Controller(m.latents, SEES[way.sees] * m.hiddens, m.actions)
    load_parameters(0 * flatten_parameters(controller.parameters()), controller)
    return Agent(world.vae, m.to_cell(), controller, world.space(), device)


def evaluator_of(
    way: Way, agent: Agent, world: WorldModel, starts: Sequence[Rollout], limit: int
) -> DreamEvaluator:
    """What scores C in the dreams of a search."""
    evaluator = DreamEvaluator(
        agent, list(starts), way.tau, burn_in=0, time_limit=limit, living_reward=1.0
    )
    dreaming: Any = quicken(world.cell.to(agent.device))
    if way.dropout:
        dreaming = Forgetful(dreaming, way.dropout)
    if "untrained" in way.sees:
        dreaming = Beside(dreaming, evaluator.dream.cell)
        evaluator.dream.__class__ = WideDream
    evaluator.dream.cell = dreaming
    return evaluator
