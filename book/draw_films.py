"""Draw the films of README and book from the shipped weights and episodes.

``python book/draw_films.py``, after ``python runs/carracing-v3/pack.py``.
"""

from pathlib import Path

import numpy as np
import torch

import wmlib
from wmlib.show import films

FIGURES = Path(__file__).parent / "figures"
FLIGHT = 50  # frames of the camera's flight at the beginning of an episode
EVERY, FPS = 6, 12  # of the game's 50 frames a second: a little faster than life


def main() -> None:
    world = wmlib.load_pretrained()
    driven = max(world.rollouts("agent"), key=lambda episode: episode.rewards.sum())
    dreamed = dream(world, driven, len(driven))
    films.film(
        driven.observations[FLIGHT::EVERY],
        "From above: a car follows a grey road through all bends of a lap, at one pace.",
        FPS,
    ).save(FIGURES / "lap.png")
    films.film(
        dreamed[FLIGHT::EVERY],
        "A softer road on plain green, dreamed: it bends and straightens, the car stays on it.",
        FPS,
    ).save(FIGURES / "dream.png")
    cut = slice(FLIGHT, 300, EVERY)
    with torch.inference_mode():
        z, _ = world.vae.encoder(wmlib.frames_to_tensor(driven.observations[cut]))
        seen = wmlib.tensor_to_frames(world.vae.decoder(z))
    films.film(
        {"the game": driven.observations[cut], "what V keeps": seen, "a dream": dreamed[cut]},
        "Three films of one drive: a sharp road that bends; the same road, softer; and a third "
        "road much like it.",
        FPS,
    ).save(FIGURES / "drive.png")


def dream(world: wmlib.WorldModel, driven: wmlib.Rollout, steps: int) -> np.ndarray:
    """Frames (steps, 64, 64, 3): the episode's first ones, then M's dream, in which C drives on."""
    agent = world.agent(device="cpu")
    dreams = wmlib.Dream(world.vae, world.cell, [driven], temperature=0.5, device="cpu")
    frames = [driven.observations[:FLIGHT]]
    with torch.inference_mode():
        z = dreams.begin_at([(0, FLIGHT)])
        for _ in range(steps - FLIGHT):
            frames.append(dreams.frames())
            z, _, _ = dreams.step(agent.action_map(agent.controller(z, dreams.hidden[0])))
    return np.concatenate(frames)


if __name__ == "__main__":
    main()
