"""Training C over an evaluator whose best driver is known, and over a world that pays by hand."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from wmlib.fitness import Scores

from wmlib import (
    Agent,
    Axes,
    Controller,
    ConvVAE,
    MDRNNCell,
    Search,
    WMControllerConfig,
    episode_seed,
    flatten_parameters,
    make_env,
    train_controller,
)
from wmlib.checkpoints import load_checkpoint
from wmlib.evolution import MEMORY, mean_ranks

PAYING = "trial_envs:Paying-v0"
L, H = 4, 8
SIZE = 2 * (L + H) + 2
TARGET = np.linspace(-0.5, 0.5, SIZE)


class Hill:
    """Scores parameters by their distance from the target, with luck that the seeds decide."""

    def __init__(self, luck: float = 0.0) -> None:
        self.luck, self.played = luck, []

    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        self.played.append((len(population), list(seeds), final))
        skill = -np.square(population - TARGET).sum(axis=1, keepdims=True)
        rng = np.random.default_rng([*seeds, len(population)])
        luck = self.luck * rng.standard_normal((len(population), len(seeds)))
        return Scores(skill + luck, population.size)

    def close(self) -> None:
        raise AssertionError("whoever made it closes it")


@pytest.fixture
def agent() -> Agent:
    torch.manual_seed(0)
    space = make_env(PAYING).action_space
    return Agent(ConvVAE(3, L), MDRNNCell(L, 2, H, 2), Controller(L, H, 2), space, amp=False)


@pytest.fixture
def config(tmp_path: Path) -> WMControllerConfig:
    return WMControllerConfig(
        L, H, 2, PAYING, str(tmp_path), n_samples=2, pop_size=6, num_generations=8, sigma0=0.3,
        eval_interval=3, eval_episodes=4, display=False, max_workers=1, seed=5,
    )  # fmt: skip


def parameters(path: Path) -> np.ndarray:
    return flatten_parameters(load_checkpoint(path)["state_dict"].values())


def stop_after(generation: int) -> Callable[[dict[str, float]], None]:
    """Ends the training as Ctrl-C does."""

    def on_generation(row: dict[str, float]) -> None:
        if row["generation"] == generation:
            raise KeyboardInterrupt

    return on_generation


def test_the_most_telling_tracks_of_late_come_back(
    config: WMControllerConfig, agent: Agent
) -> None:
    def weight(seed: int) -> int:
        return 1 + seed * 7919 % 1009

    class Tracks(Hill):
        """The later in the population the better, by as much as the track says."""

        def __call__(
            self, population: np.ndarray, seeds: Sequence[int], final: bool = False
        ) -> Scores:
            super().__call__(population, seeds, final)
            return Scores(np.outer(np.arange(len(population)), [*map(weight, seeds)]), 1)

    world, config.hard_samples, config.num_generations = Tracks(), 2, 14
    rows = train_controller(config, agent, world)
    played = [seeds for _, seeds, final in world.played if not final]
    fresh = [seeds[: config.n_samples] for seeds in played]
    assert len({seed for seeds in fresh for seed in seeds}) == 14 * config.n_samples
    for done, seeds in enumerate(played):
        late = [seed for earlier in fresh[max(0, done - MEMORY) : done] for seed in earlier]
        assert seeds[config.n_samples :] == sorted(late, key=weight)[:-3:-1]
    # What is written into a row is of fresh tracks alone, and so can be compared between searches.
    for row, seeds in zip(rows, fresh, strict=True):
        assert row["best"] == pytest.approx(5 * np.mean([*map(weight, seeds)]))


def test_ranks_count_whom_one_beat() -> None:
    returns = np.array([[900.0, 880.0], [-50.0, 890.0], [890.0, 870.0], [890.0, 905.0]])
    np.testing.assert_allclose(mean_ranks(returns), [1 / 3, -1 / 3, -1 / 2, 1 / 2])
    wrecked = returns - [[0, 0], [500, 0], [0, 0], [0, 0]]  # it was last on that track already
    np.testing.assert_array_equal(mean_ranks(wrecked), mean_ranks(returns))
    np.testing.assert_array_equal(mean_ranks(np.full((3, 2), 7.0)), 0)
    assert np.isnan(mean_ranks(np.array([[1.0], [np.nan]]))).all()


def test_it_climbs_by_ranks_though_some_are_wrecked(
    config: WMControllerConfig, agent: Agent
) -> None:
    class Wrecks(Hill):
        """A hill where one lap in five ends in a ditch, whoever drives."""

        def __call__(
            self, population: np.ndarray, seeds: Sequence[int], final: bool = False
        ) -> Scores:
            scores = super().__call__(population, seeds, final)
            ditch = np.random.default_rng(seeds).random(scores.returns.shape) < 0.2
            return Scores(scores.returns - 400 * ditch, scores.steps)

    def climbed() -> float:
        train_controller(config, agent, Wrecks())
        end = parameters(Path(config.logdir) / "ctrl" / "checkpoint.tar")
        return -float(np.square(end - TARGET).sum())

    config.num_generations, config.pop_size, config.n_samples = 60, 12, 3
    config.noreload, config.fitness = True, "rank"
    by_rank = climbed()
    config.fitness = "return"
    assert by_rank > climbed()
    assert by_rank > -np.square(TARGET).sum()


def test_it_walks_along_axes_and_goes_on_along_them(
    config: WMControllerConfig, agent: Agent
) -> None:
    rng, path = np.random.default_rng(0), Path(config.logdir) / "ctrl"
    inputs = rng.standard_normal((500, L + H + 1)) * np.geomspace(3, 0.01, L + H + 1)
    config.coordinates = "axes"
    with pytest.raises(ValueError, match="axes"):
        train_controller(config, agent, Hill())
    axes = Axes.of(inputs.T @ inputs / 500)
    train_controller(config, agent, Hill(), TARGET + 1, axes)
    straight = parameters(path / "checkpoint.tar")
    search = Search(TARGET + 1, 0.3, 6, 5, axes=Axes.load(path / "axes.npz"))
    for values in json.loads((path / "search.json").read_text())["fitness"]:
        search.tell(np.array(values))
    np.testing.assert_allclose(straight, search.mean, atol=1e-6)
    config.noreload, config.num_generations = True, 3
    train_controller(config, agent, Hill(), TARGET + 1, axes)
    config.noreload, config.num_generations = False, 8
    train_controller(config, agent, Hill())  # who goes on need not know the axes
    np.testing.assert_array_equal(parameters(path / "checkpoint.tar"), straight)
    config.coordinates = "weights"
    with pytest.raises(ValueError, match="coordinates = axes, now weights"):
        train_controller(config, agent, Hill())


def test_a_search_goes_on_from_its_recorded_start(config: WMControllerConfig, agent: Agent) -> None:
    train_controller(config, agent, Hill(), start=TARGET + 1)
    straight = parameters(Path(config.logdir) / "ctrl" / "checkpoint.tar")
    config.noreload, config.num_generations = True, 3
    train_controller(config, agent, Hill(), start=TARGET + 1)
    config.noreload, config.num_generations = False, 8
    train_controller(config, agent, Hill())  # who goes on need not know where it began
    resumed = parameters(Path(config.logdir) / "ctrl" / "checkpoint.tar")
    np.testing.assert_array_equal(resumed, straight)


def test_it_climbs_and_says_how(config: WMControllerConfig, agent: Agent, tmp_path: Path) -> None:
    config.num_generations = 40
    rows = train_controller(config, agent, Hill())
    assert rows[-1]["mean"] > rows[0]["mean"] + 1
    assert [row["generation"] for row in rows] == list(range(1, 41))
    assert rows[-1]["env_steps"] == 40 * 6 * SIZE
    assert [row["generation"] for row in rows if "cma_mean" in row] == [*range(3, 40, 3), 40]
    with (tmp_path / "ctrl" / "generations.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in table] == [round(row["mean"], 4) for row in rows]
    assert [row["cma_mean"] != "" for row in table] == ["cma_mean" in row for row in rows]


def test_the_mean_is_scored_and_kept_not_the_luckiest(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    hill = Hill(luck=5.0)
    rows = train_controller(config, agent, hill)
    search = Search(np.zeros(SIZE), config.sigma0, config.pop_size, config.seed)
    means = []
    for values in json.loads((tmp_path / "ctrl" / "search.json").read_text())["fitness"]:
        search.tell(np.array(values))
        means.append(search.mean)
    scores = {row["generation"]: row["cma_mean"] for row in rows if "cma_mean" in row}
    best = max(scores, key=lambda generation: scores[generation])
    kept = load_checkpoint(tmp_path / "ctrl" / "best.tar")
    assert (kept["epoch"], kept["reward"]) == (best, scores[best])
    for name, generation in (("best.tar", best), ("checkpoint.tar", 8)):
        saved = parameters(tmp_path / "ctrl" / name)
        np.testing.assert_allclose(saved, means[generation - 1], atol=1e-6)
    assert scores[best] < max(row["best"] for row in rows)  # luck would have looked better


def test_candidates_share_fresh_tracks_and_the_mean_has_its_own(
    config: WMControllerConfig, agent: Agent
) -> None:
    hill = Hill()
    train_controller(config, agent, hill)
    train = [seeds for count, seeds, final in hill.played if not final]
    select = [seeds for count, seeds, final in hill.played if final]
    assert [count for count, _, final in hill.played if final] == [1, 1, 1]
    assert len({seed for seeds in train for seed in seeds}) == 8 * 2  # fresh in every generation
    assert select[0] == select[1] == select[2]  # comparable
    assert len(set(select[0])) == 4
    fresh = {episode_seed("evaluate", seed, i) for seed in range(20) for i in range(100)}
    drawn = {episode_seed("collect", seed, i) for seed in range(20) for i in range(100)}
    parts = [{seed for seeds in train for seed in seeds}, set(select[0]), fresh, drawn]
    assert len(set.union(*parts)) == sum(map(len, parts))


def test_late_generations_play_more_episodes(config: WMControllerConfig, agent: Agent) -> None:
    config.late_samples, config.late_generation = 5, 6
    hill = Hill()
    train_controller(config, agent, hill)
    train = [seeds for _, seeds, final in hill.played if not final]
    assert [len(seeds) for seeds in train] == [2] * 6 + [5] * 2
    assert len({seed for seeds in train for seed in seeds}) == 6 * 2 + 2 * 5


@pytest.mark.parametrize("stops", [[1], [3, 7]])
def test_stopped_it_ends_where_a_straight_search_does(
    config: WMControllerConfig, agent: Agent, tmp_path: Path, stops: list[int]
) -> None:
    straight = train_controller(config, agent, Hill(luck=1.0))
    config.logdir = str(tmp_path / "stopped")
    for generation in stops:
        with pytest.raises(KeyboardInterrupt):
            train_controller(config, agent, Hill(1.0), on_generation=stop_after(generation))
    resumed = train_controller(config, agent, Hill(1.0))
    for a, b in zip(straight, resumed, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    for name in ("best.tar", "checkpoint.tar"):
        np.testing.assert_array_equal(
            parameters(tmp_path / "ctrl" / name), parameters(tmp_path / "stopped" / "ctrl" / name)
        )
    assert len(train_controller(config, agent, Hill())) == 8  # and has nothing left to do
    config.num_generations = 9
    assert len(train_controller(config, agent, Hill())) == 9  # unless asked


def test_it_stops_at_the_target(config: WMControllerConfig, agent: Agent) -> None:
    config.target_return = -1e9
    assert len(train_controller(config, agent, Hill())) == 3  # the first score of the mean


def test_another_name_is_another_search(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    config.num_generations, config.name = 2, "ctrl_z"
    train_controller(config, agent, Hill())
    config.name, config.pop_size = "ctrl", 4
    train_controller(config, agent, Hill())
    assert (tmp_path / "ctrl_z" / "best.tar").exists()
    assert (tmp_path / "ctrl" / "best.tar").exists()


@pytest.mark.parametrize("change", [{"pop_size": 7}, {"sigma0": 0.2}, {"seed": 6}])
def test_a_search_of_other_settings_is_not_gone_on_with(
    config: WMControllerConfig, agent: Agent, change: dict[str, float]
) -> None:
    config.num_generations = 2
    train_controller(config, agent, Hill())
    ((key, value),) = change.items()
    before = getattr(config, key)
    setattr(config, key, value)
    with pytest.raises(ValueError, match=rf"search\.json .* {key} = {before}, now {value}; give"):
        train_controller(config, agent, Hill())
    config.noreload = True
    assert len(train_controller(config, agent, Hill())) == 2


def test_a_foreign_record_is_named(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    (tmp_path / "ctrl").mkdir()
    for text, words in (('{"a": 1}', "holds no"), ('{"settings": {', "is not JSON")):
        (tmp_path / "ctrl" / "search.json").write_text(text)
        with pytest.raises(ValueError, match=rf"search\.json {words}"):
            train_controller(config, agent, Hill())


def test_a_fitness_that_is_no_number_keeps_what_there_was(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    class Broken(Hill):
        def __call__(self, *args: object, **kwargs: object) -> Scores:
            scores = super().__call__(*args, **kwargs)
            if len(self.played) == 2:
                scores.returns[1, 0] = np.nan
            return scores

    with pytest.raises(FloatingPointError, match="generation 2 has a fitness that is no number"):
        train_controller(config, agent, Broken())
    record = json.loads((tmp_path / "ctrl" / "search.json").read_text())
    assert len(record["rows"]) == len(record["fitness"]) == 1
    assert len(train_controller(config, agent, Hill())) == 8


def test_it_learns_to_drive_in_a_real_world(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    """In the world that pays for the action's first number, the best is 1 in every step."""
    config.num_generations, config.time_limit = 5, 8
    config.n_samples = config.eval_episodes = 1
    rows = train_controller(config, agent)
    assert rows[0]["mean"] == pytest.approx(-4, abs=2)  # tanh 0: the middle of [-2, 1]
    assert rows[-1]["cma_mean"] > rows[0]["mean"] + 2
    learnt = flatten_parameters(agent.controller.parameters())
    np.testing.assert_array_equal(learnt, parameters(tmp_path / "ctrl" / "checkpoint.tar"))
