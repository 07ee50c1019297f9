"""The last step: a search played again, neighbours, and successive halving."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from carracing import rooms

from wmlib.checkpoints import write_json
from wmlib.evaluators import Scores
from wmlib.search import Search

choice, axes = rooms("choice", "axes")


@pytest.mark.parametrize("walks", [False, True])
def test_the_means_of_a_search_are_found_again(tmp_path: Path, walks: bool) -> None:
    along = axes.Axes.of(np.diag([4.0, 0.5, 1.0])) if walks else None
    start = np.arange(6.0)
    search, means = Search(start, 0.3, 8, 5, axes=along), [start]
    for _ in range(4):
        search.tell(-np.square(search.ask()).sum(axis=1))
        means.append(search.mean)
    settings = {"start": start.tolist(), "sigma0": 0.3, "pop_size": 8, "seed": 5}
    write_json(tmp_path / "search.json", {"settings": settings, "fitness": search.fitness})
    np.testing.assert_array_equal(choice.means(tmp_path / "search.json", along), means)


def test_neighbours_differ_by_their_biases_alone() -> None:
    starts = {"a": np.arange(9.0), "b": np.ones(9)}
    grid = choice.neighbours(starts, gas=(0.0, -0.25), brake=(0.0, 0.2))
    assert list(grid)[:4] == ["a", "a, brake +0.2", "a, gas -0.25", "a, gas -0.25, brake +0.2"]
    assert len(grid) == 8
    moved = grid["a, gas -0.25, brake +0.2"] - starts["a"]
    np.testing.assert_allclose(moved, [0] * 7 + [-0.25, 0.2])  # steering is the third from the end
    steered = choice.neighbours({"a": grid["a"]}, steer=(0.0, 0.05))
    np.testing.assert_allclose(steered["a, steer +0.05"] - starts["a"], [0] * 6 + [0.05, 0, 0])
    np.testing.assert_array_equal(starts["a"], np.arange(9.0))


class Road:
    """Returns are a candidate's only parameter, plus what the track says; counts its laps."""

    def __init__(self, most: int = 10**6) -> None:
        self.laps: list[tuple[float, int]] = []
        self.most = most

    def __call__(
        self, population: np.ndarray, tracks: Sequence[int], final: bool = False
    ) -> Scores:
        assert final  # whole laps
        if len(self.laps) >= self.most:
            raise KeyboardInterrupt
        self.laps += [(float(flat[0]), track) for flat in population for track in tracks]
        return Scores(population[:, :1] + np.array(tracks) % 3, 1)


CANDIDATES = {f"c{i}": np.array([float(i)]) for i in (3, 0, 5, 1, 4, 2)}


def test_the_better_half_drives_on(tmp_path: Path) -> None:
    road, tracks = Road(), list(range(100, 120))
    assert choice.halve(tmp_path / "c.json", CANDIDATES, road, tracks, 5) == "c5"
    driven = {i: sorted(track for flat, track in road.laps if flat == i) for i in range(6)}
    # 6 drive 5 tracks, 3 drive 10, 2 drive 20.
    assert [len(driven[i]) for i in range(6)] == [5, 5, 5, 10, 20, 20]
    assert driven[5] == tracks
    assert driven[0] == tracks[:5]


def test_nothing_is_driven_twice(tmp_path: Path) -> None:
    path, tracks, killed = tmp_path / "c.json", list(range(100, 120)), Road(most=50)
    with pytest.raises(KeyboardInterrupt):
        choice.halve(path, CANDIDATES, killed, tracks, 5)
    road = Road()
    assert choice.halve(path, CANDIDATES, road, tracks, 5) == "c5"
    straight = Road()
    choice.halve(tmp_path / "straight.json", CANDIDATES, straight, tracks, 5)
    assert sorted(killed.laps + road.laps) == sorted(straight.laps)
    assert path.read_text() == (tmp_path / "straight.json").read_text()
    choice.halve(path, CANDIDATES, Road(most=0), tracks, 5)
    with pytest.raises(ValueError, match="recorded with candidates"):
        choice.halve(path, CANDIDATES | {"c9": np.array([9.0])}, road, tracks, 5)


def test_a_lucky_start_does_not_win(tmp_path: Path) -> None:
    def road(population: np.ndarray, tracks: Sequence[int], final: bool) -> Scores:
        luck = np.where(np.array(tracks) < 2, 3.0, 0.0)
        return Scores(population + (population == 1) * luck, 1)

    pair = {name: CANDIDATES[name] for name in ("c1", "c2", "c3")}
    assert choice.halve(tmp_path / "c.json", pair, road, range(8), 2) == "c3"


def test_biases_are_chosen_one_question_after_the_other(tmp_path: Path) -> None:
    def road(population: np.ndarray, tracks: Sequence[int], final: bool) -> Scores:
        away = np.abs(population - [5, 0.1, -0.5, 0.2]).sum(axis=1)  # of the best there is
        return Scores(-away[:, None] + np.array(tracks) % 7, 1)

    starts = {"a": np.array([2.0, 0, 0, 0]), "b": np.array([4.0, 0, 0, 0])}
    how = {"first": 2, "gas": (0.0, -0.5), "brake": (0.0, 0.2), "steer": (0.0, -0.1, 0.1)}
    name, flat, score = choice.choose(tmp_path, starts, road, range(16), how)
    assert name == "b, gas -0.5, brake +0.2, steer +0.1"
    np.testing.assert_allclose(flat, [4, 0.1, -0.5, 0.2])
    assert score == pytest.approx(-1 + np.mean(np.arange(8, 16) % 7))
