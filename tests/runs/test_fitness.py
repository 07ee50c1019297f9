"""What candidates are compared by, and which tracks come back: worked out by hand."""

import numpy as np
import pytest
from carracing import rooms

from wmlib.search import Search

(fitness,) = rooms("fitness")
MEMORY = fitness.MEMORY


def test_ranks_count_whom_one_beat() -> None:
    returns = np.array([[900.0, 880.0], [-50.0, 890.0], [890.0, 870.0], [890.0, 905.0]])
    np.testing.assert_allclose(fitness.mean_ranks(returns), [1 / 3, -1 / 3, -1 / 2, 1 / 2])
    wrecked = returns - [[0, 0], [500, 0], [0, 0], [0, 0]]  # it was last on that track already
    np.testing.assert_array_equal(fitness.mean_ranks(wrecked), fitness.mean_ranks(returns))
    np.testing.assert_array_equal(fitness.mean_ranks(np.full((3, 2), 7.0)), 0)


def test_the_worse_half_is_all_that_counts() -> None:
    returns = np.array([[900.0, 100.0, 950.0, 300.0], [910.0, 905.0, 915.0, 900.0]])
    assert fitness.worst_half(returns).tolist() == [200.0, 902.5]
    assert fitness.worst_half(returns[:, :3]).tolist() == [500.0, 907.5]  # two of three
    faster = returns + np.array([[0, 0, 500, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(fitness.worst_half(faster), fitness.worst_half(returns))


@pytest.mark.parametrize("name", ["mean_ranks", "worst_half"])
def test_what_is_no_number_stays_none(name: str) -> None:
    told = getattr(fitness, name)(np.array([[1.0, 2.0], [np.nan, 3.0]]))
    assert np.isnan(told[1])


def test_a_search_climbs_by_ranks_though_some_are_wrecked() -> None:
    """Where one lap in five ends in a ditch, whoever drives, ranks come closer than means do."""
    target = np.linspace(-1, 1, 6)

    def climbed(told: str) -> float:
        search, rng = Search(np.zeros(6), 0.3, 12), np.random.default_rng(0)
        for _ in range(60):
            height = -np.square(search.ask() - target).sum(axis=1)
            returns = height[:, None] - 400 * (rng.random((12, 3)) < 0.2)
            search.tell(fitness.mean_ranks(returns) if told == "rank" else returns.mean(axis=1))
        return float(np.square(search.mean - target).sum())

    assert climbed("rank") < climbed("mean")


def played(generations: int, fresh: int = 2) -> list[dict[str, object]]:
    """A search's record: track 100 g + i, on which candidates differ by ``spread_of`` it."""
    record: list[dict[str, object]] = []
    for generation in range(generations):
        seeds = [100 * generation + i for i in range(fresh)] + fitness.telling_tracks(record)
        returns = np.outer([-1.0, 1.0], [spread_of(seed) for seed in seeds])
        record.append({"seeds": seeds, "returns": returns.tolist()})
    return record


def spread_of(seed: int) -> int:
    return 1 + seed * 7919 % 1009


def test_the_most_telling_tracks_of_late_come_back() -> None:
    record = played(MEMORY + 4)
    for generation, row in enumerate(record):
        late = range(max(0, generation - MEMORY), generation)
        seeds = sorted((100 * g + i for g in late for i in range(2)), key=spread_of)
        assert row["seeds"][2:] == seeds[:-3:-1]
    assert fitness.three_telling_tracks(record) == fitness.telling_tracks(record, 3)
    assert len(fitness.three_telling_tracks(record)) == 3


def test_what_a_track_told_last_is_what_counts() -> None:
    first = {"seeds": [1, 2], "returns": [[0.0, 0.0], [9.0, 4.0]]}
    again = {"seeds": [3, 1], "returns": [[0.0, 5.0], [1.0, 5.0]]}  # all agree on 1 by now
    assert fitness.telling_tracks([first], 2) == [1, 2]
    assert fitness.telling_tracks([first, again], 3) == [2, 3, 1]
    assert fitness.telling_tracks([], 2) == []
