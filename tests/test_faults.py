"""The faults of older systems: what each was, and which tests would notice it here.

Found by reading and running public implementations of the paper. None of them crashes, which is
why each has a number and a guard. A test that guards one may carry ``_fault_<number>`` in its name.
"""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from trial_envs import PayingEnv

import wmlib.world
from wmlib import (
    MDRNN,
    Controller,
    ConvVAE,
    WMControllerConfig,
    evaluate,
    generate_rollouts,
    train_controller,
)
from wmlib.checkpoints import load_checkpoint, save_checkpoint
from wmlib.evolution import HELD_OUT

FAULTS = {
    1: (
        "observations of before an action are paired with the action and the reward after it",
        "rollouts: test_next_frames_are_the_frames_one_step_on",
        "rollouts: test_ctallecs_files_are_put_in_time_fault_1",
        "datasets: test_windows_are_in_time_fault_1",
        "collect: test_frames_actions_and_rewards_are_in_time_fault_1",
    ),
    2: (
        "windows run from one episode into the next",
        "datasets: test_no_window_crosses_an_episode_fault_2",
        "datasets: test_no_window_of_latents_crosses_an_episode_fault_2",
    ),
    3: (
        "returns are handed to CMA-ES as they are, and it minimises",
        "search: test_it_climbs_up",
        "evolution: test_it_climbs_and_says_how",
        "evolution: test_it_learns_to_drive_in_a_real_world",
    ),
    4: (
        "every rollout is seeded with 0: one and the same track",
        "envs: test_every_episode_of_a_run_has_its_own_seed_fault_4",
        "collect: test_every_rollout_is_another_episode_fault_4",
        "evolution: test_candidates_share_fresh_tracks_and_the_mean_has_its_own",
    ),
    5: (
        "a bare squeeze turns (T, 1) into (T, T), and the mean hides it",
        "mixture: test_gmm_loss_is_the_mixtures_negative_log_likelihood_fault_5",
        "mdrnn: test_dimensions_of_length_one_are_kept",
    ),
    6: (
        "the scheduler's state holds the optimiser, and needs pickles to be read",
        "schedules: test_the_state_is_plain_numbers_fault_6",
        "training: test_a_stopped_training_ends_where_a_straight_one_does",
    ),
    7: (
        "torch.compile writes _orig_mod. before every key",
        "devices: test_the_model_handed_in_keeps_plain_names_fault_7",
        "training: test_compiled_models_are_saved_under_plain_names",
    ),
    8: (
        "resuming M loads V's scheduler",
        "training: test_m_stopped_ends_where_a_straight_run_does",
    ),
    9: (
        "the cached latents lie among the rollouts, and are read as one",
        "rollouts: test_cached_latents_are_no_rollout_fault_9",
        "latents: test_the_file_is_no_rollout_fault_9",
    ),
    10: (
        "the hidden size is 200 here, 256 there, and a constant in the worker",
        "config: test_one_hidden_size_everywhere_fault_10",
        "world: test_sizes_come_from_the_file",
        "cli: test_the_flags_of_the_reference_page_arrive",
    ),
    11: (
        "600 files are counted as 600 windows, and little data leaves none to train on",
        "datasets: test_of_too_few_files_a_tenth_is_held_out_fault_11",
        "latents: test_windows_are_held_out_by_file_fault_11",
        "training: test_held_out_are_the_last_files_whole",
    ),
    12: (
        "models are loaded for every episode anew; a worker dies unheard, its master waits on",
        "faults: test_models_are_loaded_once_for_a_whole_search_fault_12",
        "collect: test_a_dead_process_keeps_the_finished_episodes_fault_12",
        "fast_processes: test_a_dead_process_is_one_sentence_and_no_wait_fault_12",
        "evaluation: test_a_process_that_dies_is_one_sentence_and_leaves_none_behind",
        "cli: test_a_process_that_dies_is_replaced",
    ),
    13: (
        "with a loss below zero, worse counts as better; a best of 0.0 counts as none",
        "schedules: test_getting_worse_never_counts_as_better_fault_13",
        "schedules: test_a_best_of_zero_is_a_best_fault_13",
        "schedules: test_below_zero_torchs_own_takes_worse_for_better_and_ours_does_not_fault_13",
        "training: test_it_stops_when_patience_is_at_its_end",
    ),
    14: (
        "three resizers, /255 in six places, flips that mirror the dashboard",
        "pixels: test_nobody_else_divides_by_255_or_resizes_fault_14",
        "envs: test_image_observations_are_resized_by_the_one_resizer_fault_14",
        "datasets: test_nothing_is_flipped_unasked_fault_14",
    ),
    15: (
        "the environment clips the action, M is told the unclipped one",
        "envs: test_m_is_told_the_clipped_action_fault_15",
        "policies: test_what_a_function_gives_is_clipped_as_the_environment_would_fault_15",
        "collect: test_the_executed_action_is_the_stored_one_fault_15",
        "agent: test_m_is_told_what_the_environment_executes",
        "dream: test_an_action_beyond_the_bounds_is_told_as_executed",
    ),
    16: (
        "one sample of z is stored for ever, and M learns its noise by heart",
        "latents: test_mu_is_stored_with_logsigma_and_no_sample_fault_16",
        "datasets: test_z_is_drawn_afresh_at_every_reading_fault_16",
        "datasets: test_order_and_noise_are_the_epochs_own_fault_16",
    ),
    17: (
        "the luckiest sample ever seen is reported as the score",
        "evolution: test_the_mean_is_scored_and_kept_not_the_luckiest",
        "faults: test_a_score_is_of_no_episode_that_was_trained_on_fault_17",
    ),
    18: (
        "the dream's noise is commented out, and it starts from N(0, I)",
        "dream: test_it_begins_at_a_real_moment_with_the_memory_of_what_led_there",
        "dream: test_dreams_differ_from_each_other_and_repeat_with_their_seed",
        "dream: test_spread_grows_with_the_root_of_tau",
    ),
    19: (
        "files come in the order of the disk, so that every machine splits them differently",
        "rollouts: test_files_are_sorted_fault_19",
        "datasets: test_the_split_is_by_file_sorted_and_disjoint_fault_19",
    ),
    20: (
        "every frame decodes its whole file; the buffer never evicts",
        "datasets: test_memory_is_bounded_by_the_buffer_fault_20",
        "datasets: test_each_file_is_decoded_once_per_epoch_fault_20",
    ),
    21: (
        "without a GPU, the worker's number is divided by zero",
        "devices: test_without_a_gpu_cuda_is_the_cpu_and_says_so_fault_21",
    ),
    22: (
        "files[:-0] is empty; (h, c) is not rebound within a comprehension",
        "datasets: test_no_test_files_means_none_fault_22",
        "mdrnn: test_a_hidden_state_that_is_not_threaded_is_another_model_fault_22",
        "agent: test_one_episode_is_the_loop_of_the_reference_page",
        "agent: test_memory_moves_on_with_every_step",
    ),
}
TESTS = {
    f"{path.stem.removeprefix('test_')}: {node.name}"
    for path in Path(__file__).parent.glob("test_*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
}


@pytest.mark.parametrize("number", FAULTS)
def test_every_fault_has_guards_that_exist(number: int) -> None:
    _, *guards = FAULTS[number]
    assert guards
    assert set(guards) <= TESTS


def test_the_table_is_complete() -> None:
    assert list(FAULTS) == list(range(1, 23))
    numbered = {(test, int(n)) for test in TESTS for n in re.findall(r"_fault_(\d+)$", test)}
    assert numbered <= {(guard, n) for n, (_, *guards) in FAULTS.items() for guard in guards}


# ---- guards that fit nowhere else ----------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path) -> WMControllerConfig:
    """A search over models on disk: 3 generations of 4 candidates with 2 episodes each."""
    models = {"vae": ConvVAE(3, 4), "mdrnn": MDRNN(4, 2, 8, 2), "ctrl": Controller(4, 8, 2)}
    for stage, model in models.items():
        save_checkpoint(tmp_path / stage / "best.tar", {"state_dict": model.state_dict()})
    return WMControllerConfig(
        4, 8, 2, "trial_envs:Paying-v0", str(tmp_path), n_samples=2, pop_size=4, time_limit=4,
        num_generations=3, display=False, max_workers=1,
    )  # fmt: skip


def test_models_are_loaded_once_for_a_whole_search_fault_12(
    config: WMControllerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    monkeypatch.setattr(
        wmlib.world,
        "load_checkpoint",
        lambda path: loaded.append(Path(path).parent.name) or load_checkpoint(path),
    )
    train_controller(config)
    assert sorted(loaded) == ["mdrnn", "vae"]


def test_a_score_is_of_no_episode_that_was_trained_on_fault_17(
    config: WMControllerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the worlds were really asked for; every stage has the same seed."""
    asked: list[int | None] = []
    reset = PayingEnv.reset

    def listen(env: PayingEnv, *, seed: int | None = None, options: Any = None) -> Any:
        asked.append(seed)
        return reset(env, seed=seed, options=options)

    monkeypatch.setattr(PayingEnv, "reset", listen)
    generate_rollouts(tmp_path / "data", config.env_name, 5, 4, num_workers=1, display=False)
    evaluate("random", config.env_name, 5, max_workers=1)
    train_controller(config)
    held_out = HELD_OUT * config.n_samples
    assert len(asked) == 5 + 5 + 3 * 4 * 2 + held_out
    collected, evaluated, trained = set(asked[:5]), set(asked[5:10]), set(asked[10:])
    assert (len(collected), len(evaluated), len(trained)) == (5, 5, 3 * 2 + held_out)
    assert len(collected | evaluated | trained) == 5 + 5 + 3 * 2 + held_out
