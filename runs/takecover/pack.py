"""The finished run, packed to go with the package."""

from __future__ import annotations

from pathlib import Path

from blind import Blind
from recipe import ENV, FIRST, GAMES, LIMIT, LOGDIR, PACKED, REST, TEMPERATURES, search_name

from wmlib.checkpoints import read_json
from wmlib.show.plots import read_generations
from wmlib.show.shipping import facts, pack_episodes, pack_weights
from wmlib.world import WorldModel

RECORDS = ["report.json", "audit.json", "choice.json", "deaths.json"]
RECORDS += ["vae/history.json", "mdrnn/history.json"]
RECORDS += [f"{search_name(temperature)}/ctrl/generations.csv" for temperature in TEMPERATURES]

CARD = """\
# takecover

V, M and C of Ha & Schmidhuber's World Models (2018) for {env}, Doom's TakeCover as the paper played
it; `wmlib.load_pretrained("takecover")` loads them. Made by `python runs/takecover/train.py`. C has
learned in M's dreams alone; V and M from {games:,} games of blind random play.

| | |
|---|---|
| V, a variational autoencoder | {v:,} parameters, {v_epochs} epochs in {v_minutes:.0f} minutes |
| M, a mixture density LSTM | {m:,} parameters, {m_epochs} epochs in {m_minutes:.0f} minutes |
| C, a linear map | {c:,} parameters, {generations} generations in {c_minutes:.0f} minutes |
| hardware | {hardware}, beside other work |
| on disk | V and M in fp16, C in fp32, the report's scores are of these files |

Tics survived, of at most {limit:,}:

| agent | games | mean | standard deviation | in its own dream |
|---|---|---|---|---|
{scores}

Which τ ships was chosen by {select} games each on other seeds. All games of the report are on seeds
that nothing was chosen or trained by; a row of fewer games has the first of them.

## Limits

It has seen one room of one game, at one skill level, in 64×64 pixels. Keeping to a long stride from
side to side, with closed eyes, survives about as long as many a trained agent here: compare with
that row, not with random play.

The pictures are of Freedoom (see LICENSE-text); the game engine is ViZDoom, MIT.
"""


def pack(world: WorldModel, temperature: float) -> None:
    """V, M and the C of every search, the records, sample games and a card.

    Args:
        world: V, M, the C that was chosen, and all of them by name.
        temperature: Of the dream in which the chosen C was searched.
    """
    pack_weights(PACKED, world, LOGDIR, RECORDS)
    pack_episodes(
        PACKED, ENV, {"agent": (world.agent(), 1, 400), "random": (Blind("long-held", 600), 2, 600)}
    )
    (PACKED / "README.md").write_text(card(PACKED, world, temperature), encoding="utf-8")


def card(folder: Path, world: WorldModel, temperature: float) -> str:
    """What whoever finds the weights should know, from the records beside them."""
    rows = read_json(folder / "report.json", "rows")["rows"]
    last = read_generations(folder / search_name(temperature) / "ctrl" / "generations.csv")[-1]
    lines = []
    for row in rows:
        dreamt = f"{row['dream_mean']:.0f} ± {row['dream_std']:.0f}" if "tau" in row else ""
        score = f"{row['mean']:.0f} ± {row['ci95']:.0f} | {row['std']:.0f}"
        lines.append(f"| {row['agent']} | {row['episodes']:,} | {score} | {dreamt} |")
    return CARD.format(
        **facts(folder, world),
        env=ENV,
        games=FIRST + REST,
        limit=LIMIT,
        select=GAMES["select"],
        generations=int(last["generation"]),
        c_minutes=last["seconds"] / 60,
        hardware=rows[0]["hardware"],
        scores="\n".join(lines),
    )
