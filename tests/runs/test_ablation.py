"""The ablation's agents differ in what they see; its statistics find what was put in."""

import numpy as np
import pytest
import torch
from carracing import rooms

from wmlib import load_pretrained
from wmlib.controller import flatten_parameters
from wmlib.world import WorldModel

(ablation,) = rooms("ablation")


@pytest.fixture(scope="module")
def world() -> WorldModel:
    return load_pretrained()


def test_arms_differ_in_what_c_sees(world: WorldModel) -> None:
    agents = {arm: ablation.arm_agent(world, arm, 4) for arm in ablation.ARMS}
    inputs = {arm: agent.controller.fc.in_features for arm, agent in agents.items()}
    assert inputs == {"z": 32, "untrained": 288, "z_h": 288}
    for agent in agents.values():
        assert not flatten_parameters(agent.controller.parameters()).any()
    weights = {arm: next(iter(agent.cell.parameters())) for arm, agent in agents.items()}
    assert torch.equal(weights["z"], weights["z_h"])
    assert not torch.equal(weights["untrained"], weights["z_h"])


def test_an_untrained_m_is_another_for_each_seed_and_the_same_for_one(world: WorldModel) -> None:
    first, again, other = (
        next(iter(ablation.arm_agent(world, "untrained", seed).cell.parameters()))
        for seed in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, first.half().float())  # rounded as it ships


def test_a_lesion_changes_what_c_is_shown_and_nothing_else(world: WorldModel) -> None:
    whole = world.agent()
    z, h, c = torch.randn(3, 32), torch.rand(3, 256), torch.rand(3, 256)
    with torch.no_grad():
        none, other = (
            ablation.Lesioned(name, world).decide(z, (h, c)) for name in ablation.LESIONS
        )
        assert torch.equal(none, whole.decide(z, (torch.zeros_like(h), c)))
        assert torch.equal(other, whole.decide(z, (h[[2, 0, 1]], c)))
        assert not torch.equal(other, whole.decide(z, (h, c)))
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    for agent in (whole, blind := ablation.Lesioned("h at zero", world)):
        agent.start([1, 2, 3])
        told = agent.act(frames, np.arange(3))
    assert np.allclose(told[0], told[1])
    moved = whole.cell.step(torch.from_numpy(told), blind.z, blind.cell.get_init_hidden(3))
    assert torch.allclose(blind.hidden[0], moved[0])  # M remembers as ever


def laps(rng: np.random.Generator, lift: float, spread: float) -> np.ndarray:
    """(12 searches, 20 tracks): searches differ by ``spread``, laps by 30 besides."""
    return lift + spread * rng.standard_normal((12, 1)) + 30 * rng.standard_normal((12, 20))


def test_a_difference_is_found_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    returns = {"z": laps(rng, 600, 50), "untrained": laps(rng, 800, 50), "z_h": laps(rng, 800, 50)}
    against_z, against_untrained = ablation.contrasts(returns)
    assert (against_z["agent"], against_z["against"]) == ("V + M, z and h", "V only, z")
    assert against_z["difference"] == pytest.approx(200, abs=50)
    assert against_z["p_holm"] < 0.01
    low, high = against_untrained["interval"]
    assert low < 0 < high
    assert against_untrained["p_holm"] > 0.05
    assert against_z["seeds"] == 12


def test_the_interval_is_about_searches_not_laps() -> None:
    """As wide as a normal one of the pairs' means, where tracks say little."""
    rng = np.random.default_rng(1)
    returns = {arm: laps(rng, 0, 100) for arm in ablation.ARMS}
    row = ablation.contrasts(returns)[0]
    pairs = (returns["z_h"] - returns["z"]).mean(axis=1)
    width = 2 * 1.96 * pairs.std(ddof=1) / 12**0.5
    low, high = row["interval"]
    assert high - low == pytest.approx(width, rel=0.15)


def test_pairs_count() -> None:
    """Searches that share their luck, and tracks, are compared without it."""
    rng = np.random.default_rng(2)
    shared = laps(rng, 0, 300) + 200 * rng.standard_normal(20)
    returns = {"z": shared, "untrained": shared, "z_h": shared + 10 + rng.standard_normal((12, 20))}
    for row in ablation.contrasts(returns):
        low, high = row["interval"]
        assert 8 < low < high < 12


def test_holms_correction_is_the_textbooks() -> None:
    assert ablation.holm([0.01, 0.04]) == [0.02, 0.04]
    assert ablation.holm([0.04, 0.01]) == [0.04, 0.02]
    assert ablation.holm([0.03, 0.03]) == [0.06, 0.06]
    assert ablation.holm([0.6, 0.9]) == [1.0, 1.0]
    assert ablation.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
