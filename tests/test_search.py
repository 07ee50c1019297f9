"""CMA-ES climbs, repeats from its seed, and resumes from its fitness values alone."""

import numpy as np
import pytest

from wmlib import Search

TARGET = np.linspace(-1, 1, 12)


def fitness(population: np.ndarray) -> np.ndarray:
    """A hill, highest at the target."""
    return -np.square(population - TARGET).sum(axis=1)


def climb(search: Search, generations: int) -> Search:
    for _ in range(generations):
        search.tell(fitness(search.ask()))
    return search


def start(**kwargs: int | bool) -> Search:
    return Search(np.zeros(12), 0.3, 8, **kwargs)


@pytest.mark.parametrize("diagonal", [True, False])
def test_it_climbs_up(diagonal: bool) -> None:
    search = climb(start(diagonal=diagonal), 80)
    np.testing.assert_allclose(search.mean, TARGET, atol=0.1)
    assert search.fitness[-1] > search.fitness[0]


@pytest.mark.parametrize("diagonal", [True, False])
def test_replayed_it_is_where_it_was(diagonal: bool) -> None:
    search = climb(start(diagonal=diagonal), 30)
    replayed = start(diagonal=diagonal)
    for values in search.fitness:
        replayed.tell(np.array(values))
    np.testing.assert_array_equal(replayed.mean, search.mean)
    assert replayed.sigma == search.sigma
    np.testing.assert_array_equal(replayed.ask(), search.ask())


def test_a_seed_is_a_search() -> None:
    np.testing.assert_array_equal(start(seed=1).ask(), start(seed=1).ask())
    assert not np.array_equal(start(seed=1).ask(), start(seed=2).ask())


def test_the_population_waits_for_its_fitness() -> None:
    search = start()
    first = search.ask()
    assert first.shape == (8, 12)
    np.testing.assert_array_equal(search.ask(), first)
    search.tell(fitness(first))
    assert not np.array_equal(search.ask(), first)


def test_it_neither_reads_nor_moves_numpys_global_state() -> None:
    np.random.seed(12345)  # the global state is what this is about
    before = np.random.get_state()[1].copy()
    first = climb(start(), 3).mean
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    np.testing.assert_array_equal(climb(start(), 3).mean, first)


def test_returns_that_do_not_differ_do_not_end_it() -> None:
    search = start()
    for _ in range(60):
        search.ask()
        search.tell(np.zeros(8))
    assert np.isfinite(climb(search, 20).mean).all()


def test_it_walks_along_the_axes_it_is_given_from_where_it_starts() -> None:
    """In coordinates: candidates stand where these lead to, and replayed they stand there again."""
    origin, stretch = np.linspace(2, 3, 12), np.linspace(0.1, 2, 12)

    def stretched() -> Search:
        return Search(origin, 0.3, 8, axes=lambda coordinates: stretch * coordinates)

    search, plain = stretched(), Search(np.zeros(12), 0.3, 8)
    np.testing.assert_array_equal(search.mean, origin)
    np.testing.assert_allclose(search.ask(), origin + stretch * plain.ask())
    search = climb(search, 20)
    replayed = stretched()
    for values in search.fitness:
        replayed.tell(np.array(values))
    np.testing.assert_array_equal(replayed.mean, search.mean)
    assert search.fitness[-1] > search.fitness[0]


def test_a_generation_is_one_list_of_numbers() -> None:
    """What is recorded is what was told, larger is better: no sign is changed."""
    search = start()
    told = fitness(search.ask())
    search.tell(told)
    assert search.fitness == [told.tolist()]
