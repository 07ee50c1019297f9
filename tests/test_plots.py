"""Figures: what is drawn is what was given."""

import csv
from pathlib import Path

import numpy as np
import pytest

from wmlib.show import plots


def points(axes, label: str) -> list[tuple[float, float]]:
    """The data of the line with this label."""
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return list(zip(*line.get_data(), strict=True))


def test_a_plot_is_a_png_with_its_words_and_a_repr_that_repeats() -> None:
    with plots.canvas() as (figure, axes):
        axes.plot([0, 1], [0, 1])
    plot = plots.Plot(figure, "a straight line")
    data, said = plot._repr_mimebundle_()
    assert plot.png().startswith(b"\x89PNG")
    assert set(data) == {"image/png", "text/plain"}  # no HTML, which would be compared
    assert data["text/plain"] == repr(plot) == "<Plot: a straight line>"
    assert said["image/png"]["alt"] == "a straight line"


def test_pages_are_told_a_heat_map_from_a_plot() -> None:
    shown = []
    for draw in ("plot", "imshow"):
        with plots.canvas() as (figure, axes):
            getattr(axes, draw)(np.eye(3))
        shown.append(plots.Plot(figure, "a diagonal")._repr_mimebundle_()[1]["image/png"]["class"])
    assert shown == ["wm-plot", "wm-heatmap"]


def test_a_plot_without_words_is_refused() -> None:
    with plots.canvas() as (figure, _), pytest.raises(ValueError, match="say in words"):
        plots.Plot(figure, " ")


def test_the_style_stays_on_the_canvas() -> None:
    import matplotlib

    before = matplotlib.rcParams["font.size"]
    with plots.canvas() as (_, axes):
        assert matplotlib.rcParams["font.size"] == plots.STYLE["font.size"]
    assert matplotlib.rcParams["font.size"] == before
    assert not axes.spines["top"].get_visible()


def test_a_pyplot_figure_is_not_shown_a_second_time() -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, _ = pyplot.subplots()
    plots.Plot(figure, "empty axes")
    assert figure.number not in pyplot.get_fignums()


def test_a_training_curve_has_a_point_per_epoch_of_either_set() -> None:
    epochs = [{"epoch": i, "gmm": 3.0 - i, "test_gmm": 3.5 - i} for i in (1, 2, 3)]
    axes = plots.training_curve(epochs, "falls", "gmm", "nats").figure.axes[0]
    assert points(axes, "training") == [(1, 2.0), (2, 1.0), (3, 0.0)]
    assert points(axes, "held out") == [(1, 2.5), (2, 1.5), (3, 0.5)]
    assert axes.get_ylabel() == "gmm [nats]"


def test_a_training_curve_without_held_out_data_has_one_line() -> None:
    axes = plots.training_curve([{"epoch": 1, "loss": 2.0}], "one point").figure.axes[0]
    assert [line.get_label() for line in axes.get_lines()] == ["training"]


def test_generations_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [{"generation": 1.0, "mean": -3.5}, {"generation": 2.0, "mean": 8.0, "cma_mean": 9.25}]
    with (tmp_path / "generations.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ("generation", "mean", "cma_mean"), restval="")
        table.writeheader()
        table.writerows(rows)
    assert plots.read_generations(tmp_path / "generations.csv") == rows


def test_a_later_search_counts_on_from_an_earlier_one(tmp_path: Path) -> None:
    head = "generation,seconds,env_steps,mean,cma_mean\n"
    for part, table in (("ctrl", "1,7,70,850,\n2,9,90,860,870\n"), ("round1/ctrl", "1,5,50,-3,\n")):
        (tmp_path / part).mkdir(parents=True)
        (tmp_path / part / "generations.csv").write_text(head + table)
    (tmp_path / "searches.json").write_text('["round1/ctrl", "ctrl"]')
    first, second, third = plots.read_search(tmp_path)
    assert first == {"generation": 1, "seconds": 5, "env_steps": 50, "mean": -3}
    assert second == {"generation": 2, "seconds": 12, "env_steps": 120, "mean": 850}
    assert third == {"generation": 3, "seconds": 14, "env_steps": 140, "mean": 860, "cma_mean": 870}


def test_a_single_search_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "ctrl").mkdir()
    (tmp_path / "ctrl" / "generations.csv").write_text("generation,seconds,env_steps\n1,7,70\n")
    assert plots.read_search(tmp_path) == [{"generation": 1, "seconds": 7, "env_steps": 70}]


def test_an_evolution_curve_shows_the_cma_mean_only_where_it_was_measured() -> None:
    rows = [
        {"generation": i, "env_steps": 100 * i, "mean": 10.0 * i, "best": 20.0 * i} for i in (1, 2)
    ]
    rows[1]["cma_mean"] = 15.0
    axes = plots.evolution_curve(rows, "rises").figure.axes[0]
    assert points(axes, "population mean") == [(1, 10.0), (2, 20.0)]
    assert points(axes, "its best") == [(1, 20.0), (2, 40.0)]
    assert points(axes, "CMA mean, held out") == [(2, 15.0)]
    steps = plots.evolution_curve(rows, "rises", x="env_steps").figure.axes[0]
    assert points(steps, "CMA mean, held out") == [(200, 15.0)]


def test_kl_bars_are_sorted_and_keep_their_latent() -> None:
    axes = plots.kl_bars(np.array([0.5, 2.0, 1.0]), "three bars").figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [2.0, 1.0, 0.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "0"]


def test_scores_show_every_return_and_the_interval_of_the_mean() -> None:
    rows = [
        {"agent": "random", "returns": [-30.0, -50.0], "mean": -40.0, "ci95": 19.6},
        {"agent": "paper", "mean": 906.0, "ci95": 4.1},
    ]
    axes = plots.scores(rows, "two agents", {"the bar": 900.0}).figure.axes[0]
    dots = axes.get_lines()[0].get_xdata()
    assert list(dots) == [-30.0, -50.0]
    intervals = [
        next(segment[:, 0] for segment in container.lines[2][0].get_segments())
        for container in axes.containers
    ]
    assert np.allclose(intervals, [[-59.6, -20.4], [901.9, 910.1]])
    words = [text.get_text() for text in axes.texts]
    assert words == ["random: -40 ± 20", "paper: 906 ± 4", "the bar"]
