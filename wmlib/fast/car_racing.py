"""Gymnasium's CarRacing, drawn twice as fast."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.box2d import car_racing

__all__ = ["QuickCarRacing"]

Polygon = list[tuple[float, float]]


class QuickCarRacing(car_racing.CarRacing):
    """The same game and the same pictures, to the bit.

    Most of a step goes into turning some 700 patches of grass and road, one by one, only to find
    that about 20 of them are in sight, and into a field 25 times as large as the picture. Here all
    are turned at once to find those, which Gymnasium then draws; and a picture that is all field
    is filled.
    """

    seen_road: list[Any] | None = None

    def _render_road(self, zoom: float, translation: tuple[float, float], angle: float) -> None:
        if self.seen_road is not self.road_poly:  # a new track
            self.seen_road = self.road_poly
            self.polygons: list[Polygon] = [*GRASS, *_plain(self.road_poly)]
            self.corners = np.array(self.polygons)
        view = (zoom, translation, angle)
        surface: Any = self.surf
        draw: Any = self._draw_colored_polygon  # Gymnasium's; it has no types
        if _is_all_field(*view):
            surface.fill(self.bg_color)
        else:
            draw(surface, FIELD, self.bg_color, *view, clip=False)
        for i in np.flatnonzero(_in_sight(self.corners, *view)):
            # A tile's colour changes when a wheel touches it, so it is read anew.
            is_road = i >= len(GRASS)
            color = self.road_poly[i - len(GRASS)][1] if is_road else self.grass_color
            draw(surface, self.polygons[i], [int(c) for c in color], *view)


def _is_all_field(zoom: float, translation: tuple[float, float], angle: float) -> bool:
    """Whether the whole picture, with a pixel to spare, is inside the field."""
    corners = (PICTURE - np.array(tuple(translation))) @ _rotation(-angle) / zoom
    return bool((np.abs(corners) < EDGE).all())


def _in_sight(
    corners: np.ndarray, zoom: float, translation: tuple[float, float], angle: float
) -> np.ndarray:
    """Which polygons (N, 4, 2) may reach into the picture (N,), with a pixel to spare."""
    on_screen = corners @ _rotation(angle) * zoom + np.array(tuple(translation))
    before = (on_screen < -1).all(axis=1)
    beyond = (on_screen > SCREEN + 1).all(axis=1)
    return np.asarray(~(before | beyond).any(axis=1))


def _rotation(angle: float) -> np.ndarray:
    """Rows of points times this (2, 2) are turned by the angle."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])


def _plain(road: list[Any]) -> list[Polygon]:
    """The tiles' corners, as plain numbers."""
    return [[(corner[0], corner[1]) for corner in corners] for corners, _ in road]


def _square(x: float, y: float, side: float) -> Polygon:
    return [(x + side, y), (x, y), (x, y + side), (x + side, y + side)]


SCREEN = np.array([car_racing.WINDOW_W, car_racing.WINDOW_H])
PICTURE = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (SCREEN / 2 + 1) + SCREEN / 2
EDGE, PATCH = car_racing.PLAYFIELD, car_racing.GRASS_DIM
FIELD = [(EDGE, EDGE), (EDGE, -EDGE), (-EDGE, -EDGE), (-EDGE, EDGE)]
# Every second square of the field is of the other green.
GRASS = [_square(PATCH * x, PATCH * y, PATCH) for x in range(-20, 20, 2) for y in range(-20, 20, 2)]
