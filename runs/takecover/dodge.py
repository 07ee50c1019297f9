"""A player who reads from the game what no picture says: how long it can be played at all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from recipe import ENV

from wmlib.envs import make_env

WALLS, WIDE = (16.0, 752.0), 44.0  # of the room, and how near a fireball may come, in map units
TURNS = itertools.product((6, 14, 28, 90), (1, 0, -1), (1, -1))
KEYS = np.array([[first] * tics + [then] * (90 - tics) for tics, first, then in TURNS])  # (24, 90)


def dodge(seeds: Sequence[int]) -> np.ndarray:
    """Tics that a script survives which knows where every fireball in sight will be: (N,).

    It reads positions and speeds from the game, looks 90 tics ahead under each of some plans of
    one turn, sweeps from wall to wall, and leaves the sweep for the plan that is hit last.
    """
    from vizdoom import GameVariable

    env = make_env(ENV, labels_buffer_enabled=True)
    engine: Any = env.unwrapped
    lengths = []
    for seed in seeds:
        env.reset(seed=int(seed))
        sweep, length, ended = 1, 0, False
        while not ended:
            place = [GameVariable.POSITION_Y, GameVariable.VELOCITY_Y]
            y, speed = map(engine.game.get_game_variable, place)  # to the right, y falls
            if not WALLS[0] + 24 < y < WALLS[1] - 24:
                sweep = -1 if y < 100 else 1
            balls = [label for label in engine.state.labels if label.object_name == "DoomImpBall"]
            hits = _hits(y, speed, balls)
            straight = hits[np.all(sweep == KEYS, axis=1)][0]
            best = KEYS[(hits + 0.5 * (KEYS[:, 0] == sweep)).argmax()]
            push = int(best[0]) if hits.max() > straight else sweep
            sweep = push or sweep
            _, _, terminated, truncated, _ = env.step(np.array([push], np.int8))
            length, ended = length + 1, terminated or truncated
        lengths.append(length)
    env.close()
    return np.array(lengths)


def _hits(y: float, speed: float, balls: Sequence[Any]) -> np.ndarray:
    """When each of ``KEYS`` is hit, in tics from now; 90 if it is not."""
    here, speeds = np.full(len(KEYS), y), np.full(len(KEYS), speed)
    path = np.empty(KEYS.shape)
    for t in range(KEYS.shape[1]):
        speeds += 0.094 * (-7.3 * KEYS[:, t] - speeds)  # the game's friction and top speed
        here = (here + speeds).clip(*WALLS)
        path[:, t] = here
    ahead, first = np.arange(1, KEYS.shape[1] + 1), np.full(len(KEYS), KEYS.shape[1])
    for ball in balls:
        x = ball.object_position_x + ball.object_velocity_x * ahead
        meets = abs(path - ball.object_position_y - ball.object_velocity_y * ahead) < WIDE
        hit = meets & (abs(x + 416) < 34)  # the player walks along x = -416
        first = np.minimum(first, np.where(hit.any(axis=1), hit.argmax(axis=1), KEYS.shape[1]))
    return first
