"""Training C over an evaluator whose best driver is known, and over a world that pays by hand."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wmlib.evolution
from wmlib import (
    Agent,
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
from wmlib.evaluators import Scores
from wmlib.evolution import Played

pytestmark = pytest.mark.usefixtures("float32")
FROZEN = Path(__file__).parent / "frozen"
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
    return Agent(ConvVAE(3, L), MDRNNCell(L, 2, H, 2), Controller(L, H, 2), space)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean is scored in every third generation, so that a short search scores it thrice."""
    monkeypatch.setattr(wmlib.evolution, "INTERVAL", 3)


@pytest.fixture
def config(tmp_path: Path) -> WMControllerConfig:
    return WMControllerConfig(
        L, H, 2, PAYING, str(tmp_path), n_samples=2, pop_size=6, num_generations=8, sigma0=0.3,
        display=False, max_workers=1, seed=5,
    )  # fmt: skip


def parameters(path: Path) -> np.ndarray:
    return flatten_parameters(load_checkpoint(path)["state_dict"].values())


def stop_after(generation: int) -> Callable[[dict[str, float]], None]:
    """Ends the training as Ctrl-C does."""

    def on_generation(row: dict[str, float]) -> None:
        if row["generation"] == generation:
            raise KeyboardInterrupt

    return on_generation


def test_tracks_that_come_back_are_played_beside_the_fresh_ones(
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

    def most_telling(played: Played) -> list[int]:
        """Of all tracks so far, the two on which candidates differed most."""
        spreads = {
            seed: spread
            for generation in played
            for seed, spread in zip(
                generation["seeds"], np.std(generation["returns"], axis=0), strict=True
            )
        }
        return sorted(spreads, key=lambda seed: -spreads[seed])[:2]

    world, config.num_generations = Tracks(), 14
    rows = train_controller(config, agent, world, more_tracks=most_telling)
    played = [seeds for _, seeds, final in world.played if not final]
    fresh = [seeds[: config.n_samples] for seeds in played]
    assert len({seed for seeds in fresh for seed in seeds}) == 14 * config.n_samples
    for done, seeds in enumerate(played):
        earlier = [seed for generation in fresh[:done] for seed in generation]
        assert seeds[config.n_samples :] == sorted(earlier, key=weight)[:-3:-1]
    # What is written into a row is of fresh tracks alone, and so can be compared between searches.
    for row, seeds in zip(rows, fresh, strict=True):
        assert row["best"] == pytest.approx(5 * np.mean([*map(weight, seeds)]))
    with pytest.raises(ValueError, match="more_tracks = most_telling, now None"):
        train_controller(config, agent, world)


def test_it_climbs_by_ranks_though_some_are_wrecked(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    class Wrecks(Hill):
        """A hill where one lap in five ends in a ditch, whoever drives."""

        def __call__(
            self, population: np.ndarray, seeds: Sequence[int], final: bool = False
        ) -> Scores:
            scores = super().__call__(population, seeds, final)
            ditch = np.random.default_rng(seeds).random(scores.returns.shape) < 0.2
            return Scores(scores.returns - 400 * ditch, scores.steps)

    def mean_ranks(returns: np.ndarray) -> np.ndarray:
        """The share of the others that a candidate beat less the share that beat it."""
        return np.sign(returns[:, None] - returns[None]).sum(axis=1).mean(axis=1)

    def climbed(name: str, **trick: Callable[[np.ndarray], np.ndarray]) -> float:
        config.logdir = str(tmp_path / name)
        train_controller(config, agent, Wrecks(), **trick)
        end = parameters(tmp_path / name / "ctrl" / "checkpoint.tar")
        return -float(np.square(end - TARGET).sum())

    config.num_generations, config.pop_size, config.n_samples = 60, 12, 3
    by_rank = climbed("ranks", fitness=mean_ranks)
    assert by_rank > climbed("returns")
    assert by_rank > -np.square(TARGET).sum()
    with pytest.raises(ValueError, match="fitness = mean_return, now mean_ranks"):
        climbed("returns", fitness=mean_ranks)


class Stretched:
    """Axes along which some weights change more than others."""

    def __call__(self, coordinates: np.ndarray) -> np.ndarray:
        return coordinates * np.geomspace(3, 0.1, SIZE)


def test_it_walks_along_axes_and_goes_on_along_them(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    axes, path = Stretched(), tmp_path / "ctrl"
    train_controller(config, agent, Hill(), TARGET + 1, axes)
    straight = parameters(path / "checkpoint.tar")
    search = Search(TARGET + 1, 0.3, 6, 5, axes=axes)
    for values in json.loads((path / "search.json").read_text())["fitness"]:
        search.tell(np.array(values))
    np.testing.assert_allclose(straight, search.mean, atol=1e-6)
    config.logdir, config.num_generations = str(tmp_path / "stopped"), 3
    train_controller(config, agent, Hill(), TARGET + 1, axes)
    config.num_generations = 8
    train_controller(config, agent, Hill(), axes=axes)
    resumed = parameters(tmp_path / "stopped" / "ctrl" / "checkpoint.tar")
    np.testing.assert_array_equal(resumed, straight)
    with pytest.raises(ValueError, match="axes = Stretched, now None"):
        train_controller(config, agent, Hill())


def test_a_search_goes_on_from_its_recorded_start(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    train_controller(config, agent, Hill(), start=TARGET + 1)
    straight = parameters(tmp_path / "ctrl" / "checkpoint.tar")
    config.logdir, config.num_generations = str(tmp_path / "stopped"), 3
    train_controller(config, agent, Hill(), start=TARGET + 1)
    config.num_generations = 8
    train_controller(config, agent, Hill())  # who goes on need not know where it began
    resumed = parameters(tmp_path / "stopped" / "ctrl" / "checkpoint.tar")
    np.testing.assert_array_equal(resumed, straight)


def test_it_climbs_and_says_how(config: WMControllerConfig, agent: Agent, tmp_path: Path) -> None:
    config.num_generations = 40
    rows = train_controller(config, agent, Hill())
    assert rows[-1]["mean"] > rows[0]["mean"] + 1
    assert [row["generation"] for row in rows] == list(range(1, 41))
    assert rows[-1]["env_steps"] == 40 * 6 * SIZE
    assert [row["generation"] for row in rows if "cma_mean" in row] == [10, 20, 30, 40]
    with (tmp_path / "ctrl" / "generations.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [float(row["mean"]) for row in table] == [round(row["mean"], 4) for row in rows]
    assert [row["cma_mean"] != "" for row in table] == ["cma_mean" in row for row in rows]


@pytest.mark.usefixtures("often")
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


@pytest.mark.usefixtures("often")
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
    assert len(set(select[0])) == 4 * config.n_samples
    fresh = {episode_seed("evaluate", seed, i) for seed in range(20) for i in range(100)}
    drawn = {episode_seed("collect", seed, i) for seed in range(20) for i in range(100)}
    parts = [{seed for seeds in train for seed in seeds}, set(select[0]), fresh, drawn]
    assert len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.usefixtures("often")
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


@pytest.mark.usefixtures("often")
def test_it_stops_at_the_target(config: WMControllerConfig, agent: Agent) -> None:
    config.target_return = -1e9
    assert len(train_controller(config, agent, Hill())) == 3  # the first score of the mean


@pytest.mark.parametrize(
    "change",
    [
        {"pop_size": 7},
        {"sigma0": 0.2},
        {"seed": 6},
        {"n_samples": 3},
        {"patience": 5},
        {"time_limit": 50},
        {"temperature": 1.5},
        {"env_kwargs": {"size": 80}},
    ],
)
def test_a_search_of_other_settings_is_not_gone_on_with(
    config: WMControllerConfig, agent: Agent, tmp_path: Path, change: dict[str, float]
) -> None:
    config.num_generations = 2
    train_controller(config, agent, Hill())
    ((key, value),) = change.items()
    before = getattr(config, key)
    setattr(config, key, value)
    said = re.escape(f"{key} = {before}, now {value}; give")
    with pytest.raises(ValueError, match=rf"search\.json .* {said}"):
        train_controller(config, agent, Hill())
    config.logdir = str(tmp_path / "other")
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
    config.n_samples = 1
    rows = train_controller(config, agent)
    assert rows[0]["mean"] == pytest.approx(-4, abs=2)  # tanh 0: the middle of [-2, 1]
    assert rows[-1]["cma_mean"] > rows[0]["mean"] + 2
    learnt = flatten_parameters(agent.controller.parameters())
    np.testing.assert_array_equal(learnt, parameters(tmp_path / "ctrl" / "checkpoint.tar"))


def test_an_agent_that_acts_otherwise_is_refused(config: WMControllerConfig, agent: Agent) -> None:
    config.sample_z = True
    with pytest.raises(ValueError, match="sample_z is True, the agent's is False"):
        train_controller(config, agent, Hill())


def test_what_was_played_is_kept(config: WMControllerConfig, agent: Agent, tmp_path: Path) -> None:
    hill = Hill(luck=1.0)
    rows = train_controller(config, agent, hill)
    state = json.loads((tmp_path / "ctrl" / "search.json").read_text())
    train = [seeds for _, seeds, final in hill.played if not final]
    assert [generation["seeds"] for generation in state["played"]] == train
    for row, told, generation in zip(rows, state["fitness"], state["played"], strict=True):
        np.testing.assert_allclose(np.mean(generation["returns"], axis=1), told, atol=1e-3)
        assert row["mean"] == pytest.approx(np.mean(generation["returns"]), abs=1e-3)


def test_a_checkpoint_says_what_it_was_trained_with(
    config: WMControllerConfig, agent: Agent, tmp_path: Path
) -> None:
    train_controller(config, agent, Hill())
    for name in ("best.tar", "checkpoint.tar"):
        saved = load_checkpoint(tmp_path / "ctrl" / name)
        assert WMControllerConfig.from_dict(saved["config"]) == config
        assert saved["versions"]["cma"]


# ---- what earlier versions recorded ------------------------------------------------------------


@pytest.fixture
def record(tmp_path: Path) -> dict[str, Any]:
    """25 generations of the search for a C that sees z alone, as an earlier version wrote them.

    Put where the search goes on from it; ``mean`` are the weights that were kept.
    """
    (tmp_path / "ctrl").mkdir()
    shutil.copy(FROZEN / "search_v_only.json", tmp_path / "ctrl" / "search.json")
    return json.loads((FROZEN / "search_v_only.json").read_text())


@pytest.fixture
def driver() -> Agent:
    """An agent of the recorded one's sizes."""
    space = make_env("CarRacing-v3").action_space
    return Agent(ConvVAE(3, 32), MDRNNCell(32, 3, H, 2), Controller(32, 0, 3), space)


class Count(Hill):
    """Scores anything."""

    def __call__(self, population: np.ndarray, seeds: Sequence[int], final: bool = False) -> Scores:
        self.played.append((population, list(seeds), final))
        return Scores(np.random.default_rng(seeds).normal(size=(len(population), len(seeds))), 7)


def going_on(tmp_path: Path, **changes: Any) -> WMControllerConfig:
    settings = {"logdir": str(tmp_path), "pop_size": 16, "n_samples": 4, "num_generations": 27}
    return WMControllerConfig(32, 0, 3, "CarRacing-v3", display=False, **(settings | changes))


def test_a_recorded_search_is_replayed_to_where_it_was(record: dict[str, Any]) -> None:
    search = Search(np.zeros(99), 0.1, 16, seed=0)
    for row, told in zip(record["rows"], record["fitness"], strict=True):
        search.tell(np.array(told))
        assert search.sigma == pytest.approx(row["sigma"], rel=1e-9)
        assert (np.mean(told), max(told)) == pytest.approx((row["mean"], row["best"]))
    np.testing.assert_allclose(search.mean, record["mean"], atol=1e-7)  # of the 25th generation


def test_a_recorded_search_goes_on(record: dict[str, Any], driver: Agent, tmp_path: Path) -> None:
    world = Count()
    rows = train_controller(going_on(tmp_path), driver, world)
    # Nothing that was played is played again, and the next population is the one that was due.
    assert [(len(p), final) for p, _, final in world.played] == [
        (16, False),
        (16, False),
        (1, True),
    ]
    search = Search(np.zeros(99), 0.1, 16, seed=0)
    for told in record["fitness"]:
        search.tell(np.array(told))
    np.testing.assert_array_equal(world.played[0][0], search.ask())
    played = {episode_seed("train", 0, 1000 * done + i) for done in range(25) for i in range(4)}
    assert played.isdisjoint(world.played[0][1])
    assert [row["generation"] for row in rows] == list(range(1, 28))
    assert rows[26]["env_steps"] == record["rows"][-1]["env_steps"] + 2 * 7
    # What was recorded stands as it did.
    state = json.loads((tmp_path / "ctrl" / "search.json").read_text())
    assert state["settings"] == record["settings"]
    assert state["rows"][:25] == rows[:25] == record["rows"]
    assert state["fitness"][:25] == record["fitness"]
    assert len(state["fitness"]) == 27


def test_a_recorded_search_that_is_finished_is_left_alone(
    record: dict[str, Any], driver: Agent, tmp_path: Path
) -> None:
    world, path = Count(), tmp_path / "ctrl" / "search.json"
    before = path.read_bytes()
    rows = train_controller(going_on(tmp_path, num_generations=25), driver, world)
    assert rows == record["rows"]
    assert not world.played
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "said"),
    [({"pop_size": 12}, "pop_size = 16, now 12"), ({"sigma0": 0.2}, "sigma0 = 0.1, now 0.2"),
     ({"seed": 1}, "seed = 0, now 1")],
)  # fmt: skip
def test_a_recorded_search_of_other_settings_is_named_and_left_alone(
    record: dict[str, Any], driver: Agent, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "ctrl" / "search.json"
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"search.json was recorded with {said}"):
        train_controller(going_on(tmp_path, **change), driver, Count())
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["search.json"]


def test_a_recorded_search_that_cannot_be_replayed_is_not_gone_on_with(
    record: dict[str, Any], driver: Agent, tmp_path: Path
) -> None:
    """Such as one of another version of CMA-ES, or of a covariance that was not diagonal."""
    record["rows"][-1]["sigma"] *= 1.01
    (tmp_path / "ctrl" / "search.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"search\.json cannot be replayed: .* sigma 0\.08"):
        train_controller(going_on(tmp_path), driver, Count())
