"""The results page says what the reports say, and what they do not say yet."""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXTENSIONS = Path(__file__).resolve().parents[1] / "book" / "extensions"
RETURNS = [880.0, 900.0, 940.0, 960.0]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXTENSIONS)
    module = importlib.import_module("from_reports")
    monkeypatch.setattr(module, "PRETRAINED", tmp_path)
    return module


def row(agent: str, mean: float = 920.0, backend: str = "gymnasium") -> dict[str, Any]:
    return {
        "agent": agent, "env_id": "CarRacing-v3", "backend": backend, "seed": 3, "episodes": 4,
        "mean": mean, "std": 36.5, "ci95": 35.8, "returns": RETURNS,
        "versions": {"torch": "2.13.0"}, "hardware": "an abacus",
    }  # fmt: skip


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "ctrl").mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"rows": rows}))
    (folder / "ctrl" / "generations.csv").write_text(
        "generation,seconds,env_steps,mean,best,sigma,cma_mean\n"
        "1,60,10000,-50,0,0.1,\n"
        "2,1800,1500000,400,500,0.1,650\n"
        "3,7200,4000000,500,600,0.1,700\n"
    )


def test_every_row_is_there_as_measured(page: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "mine", [row("random", -35.0), row("agent"), row("agent", 918.0, "envpool")])
    text = "\n".join(page.results())
    assert "Every row: 4 tracks, seed 3." in text
    assert "| random policy (Gymnasium) | **-35** ± 36 |" in text
    assert "| V + M, the shipped agent (EnvPool) | **918** ± 36" in text
    assert "| 920 | 36 | 880 |" in text  # the median of the returns, std, the worst
    assert "torch 2.13.0, on an abacus" in text
    assert "Beside the paper" not in text  # of the ablation there is nothing yet


def test_rows_of_different_tracks_say_which(page: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "mine", [row("random", -35.0) | {"seed": 8}, row("agent")])
    text = "\n".join(page.results())
    assert "| random policy (Gymnasium) | 4 tracks, seed 8 | **-35** ± 36 |" in text
    assert "| V + M, the shipped agent (Gymnasium) | 4 tracks, seed 3 | **920** ± 36 |" in text


def test_every_lap_is_a_dot_where_it_belongs(page: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "mine", [row("random", -35.0), row("agent")])
    text = "\n".join(page.results())
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)%"', text)]
    low, high = -100, 1000
    assert places == pytest.approx([100 * (x - low) / (high - low) for x in 2 * RETURNS], abs=0.01)
    means = re.findall(r'class="wm-mean" x1="([\d.]+)%" x2="([\d.]+)%"', text)
    middle = [(float(a) + float(b)) / 2 for a, b in means]
    assert middle == pytest.approx([100 * (x - low) / (high - low) for x in (-35, 920)], abs=0.01)
    assert "<p>random policy (Gymnasium): <b>-35 ± 36</b></p>" in text


def test_the_edits_by_hand_stand_beside_what_was_before_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(EXTENSIONS)
    text = "\n".join(importlib.import_module("from_reports").results())
    assert "| Gymnasium | 863 ± 23 | 910 ± 3 |" in text
    assert "| EnvPool, z sampled | 852 ± 11 | 666 ± 13 |" in text


def test_an_ablation_names_what_is_missing(page: ModuleType, tmp_path: Path) -> None:
    again = row("V + M, z and h, second seed", 900.0, "envpool")
    seeds = [row("V + M, z and h", backend="envpool"), again]
    write(tmp_path / "mine", [row("random", -35.0), *seeds, row("agent")])
    text = "\n".join(page.results())
    assert "| V only, z | 632 ± 251 | not measured yet |" in text
    both = "920 ± 36 (EnvPool); 900 ± 36 (EnvPool, second seed)"
    assert f"| V + M, z and h | – | {both} |" in text
    assert "| V + M, the shipped agent | 906 ± 21 | 920 ± 36 (Gymnasium) |" in text


def test_cost_is_read_off_the_first_generation_that_reached_a_score(
    page: ModuleType, tmp_path: Path
) -> None:
    write(tmp_path / "mine", [row("agent")])
    text = "\n".join(page.results())
    assert "| 300 | 2 | 1.50 million | 30 minutes | 1.0 |" in text
    assert "| 600 | 2 | 1.50 million | 30 minutes | 1.0 |" in text
    assert "| 800 | not reached | | | |" in text
    assert "| the whole search | 3 | 4.00 million | 2.0 hours | 4.0 |" in text


def test_a_second_round_counts_on_from_the_first(page: ModuleType, tmp_path: Path) -> None:
    write(tmp_path / "mine", [row("agent")])
    write(tmp_path / "mine" / "round1", [row("agent")])
    (tmp_path / "mine" / "searches.json").write_text('["round1/ctrl", "ctrl"]')
    text = "\n".join(page.results())
    assert "| 600 | 2 | 1.50 million | 30 minutes | 1.0 |" in text
    assert "| the whole search | 6 | 8.00 million | 4.0 hours | 8.0 |" in text


def test_each_page_has_one_place_for_what_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXTENSIONS)
    pages = importlib.import_module("from_code")
    for name in pages.PAGES:
        text = (EXTENSIONS.parents[1] / f"{name}.md").read_text()
        assert text.count(pages.MARK) == 1, name
    source = [text]
    pages.fill(None, "book/licences", source)
    assert source == [text]
    pages.fill(None, name, source)
    assert pages.MARK not in source[0]
    assert len(source[0]) > len(text)


def test_what_was_learned_in_dreams_stands_beside_the_papers(
    page: ModuleType, tmp_path: Path
) -> None:
    dreamed = row("C", 700.0) | {"tau": 1.15, "dream_mean": 1400.4, "dream_std": 600.0}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.json").write_text(json.dumps({"rows": [dreamed, row("blind")]}))
    text = "\n".join(page.results())
    assert "| 1.15 | 1400 ± 600 | 700 ± 36 | 918 ± 546 | 1092 ± 556 |" in text
    assert "What the search for C took" not in text


def test_what_was_withstood_is_what_the_reports_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXTENSIONS)
    module = importlib.import_module("from_reports")
    text = "\n".join(module.faults())
    report = json.loads((module.FAULTS / "report.json").read_text())
    assert {row["campaign"] for row in report["rows"]} == set(module.CAMPAIGNS)
    for row in report["rows"]:
        figures = f"{row['cases']:,} | {row['violations']} | {row['seconds']:.0f} |"
        assert f"| {module.CAMPAIGNS[row['campaign']]} | {figures}" in text
    kills = sum(row["cases"] for row in report["rows"] if row["campaign"].startswith("kills"))
    total = sum(row["cases"] for row in report["rows"])
    assert f"{total:,} cases, {kills:,} of them kills, and 0 violations" in text
    assert kills >= 1000
    assert total - kills >= 1000
    for row in json.loads((module.FAULTS / "vision.json").read_text())["rows"]:
        figures = " | ".join(f"{row[key]:.1f}" for key in ("mean_frame", "plain", "wmlib"))
        assert f"| {row['env_id']} | {figures} |" in text
    for row in module._report("threads.json")["rows"]:
        assert f"| {row['setting']} | {row['m_idle']:,} | {row['m_busy']:,} |" in text
