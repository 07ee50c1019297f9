"""Playing and writing it down, on a world that counts: what belongs together stands together."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting_env import HIGH, LOW, action_level, episode_length

from wmlib.collect import generate_rollouts, play
from wmlib.envs import PURPOSES, episode_seed
from wmlib.policies import make_policy
from wmlib.rollouts import Rollout, read_rollout
from wmlib.vector_envs import choose_backend, make_vector_env

COUNTING = "counting_env:Counting-v0"


def collect(folder: Path, env: str = COUNTING, rollouts: int = 4, steps: int = 50, **kwargs: Any):
    kwargs = {"num_workers": 1, "display": False, **kwargs}
    return generate_rollouts(folder, env, rollouts, steps, **kwargs)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_time(rollout: Rollout, executed: np.ndarray) -> None:
    """The law of time, read off the pictures: frame t --action t--> frame t + 1, paid t."""
    frames, after = rollout.observations[:, 0, 0], rollout.next_observations[:, 0, 0]
    assert len(frames) == len(after) == len(rollout)
    for t in range(len(rollout)):
        assert frames[t, 0] == t
        assert frames[t, 1] == after[t, 1] == rollout.seed % 251
        assert after[t, 0] == t + 1
        assert after[t, 2] == action_level(executed[t])
        assert rollout.rewards[t] == t


# ------------------------------------------------------------------------------ what is written


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("world", ["Counting-v0", "CountingDiscrete-v0", "CountingState-v0"])
def test_frames_actions_and_rewards_are_in_time_fault_1(
    tmp_path: Path, world: str, workers: int
) -> None:
    """Fault 1: obs[t] was paired with action[t + 1] and reward[t + 1]."""
    for path in collect(tmp_path, f"counting_env:{world}", num_workers=workers):
        rollout = read_rollout(path)
        discrete = world == "CountingDiscrete-v0"
        assert rollout.actions.shape == (len(rollout), 4 if discrete else 2)
        executed = rollout.actions.argmax(-1) + 1 if discrete else rollout.actions
        check_time(rollout, executed)
        assert len(rollout) == episode_length(rollout.seed)
        assert rollout.terminals.tolist() == [0] * (len(rollout) - 1) + [1]
        assert not rollout.truncated


def test_the_pages_shapes_and_types(tmp_path: Path) -> None:
    (path,) = collect(tmp_path, rollouts=1)
    with np.load(path, allow_pickle=False) as archive:
        steps = len(archive["rewards"])
        found = {key: (archive[key].shape, archive[key].dtype) for key in archive.files}
    assert found["observations"] == ((steps, 64, 64, 3), np.uint8)
    assert found["actions"] == ((steps, 2), np.float32)
    assert found["rewards"] == found["terminals"] == ((steps,), np.float32)


def test_a_time_limit_truncates_and_does_not_terminate(tmp_path: Path) -> None:
    for path in collect(tmp_path, steps=5):
        rollout = read_rollout(path)
        assert len(rollout) == 5
        assert rollout.truncated
        assert not rollout.terminals.any()
        check_time(rollout, rollout.actions)


def test_the_environments_own_limit_truncates_too(tmp_path: Path) -> None:
    (path,) = collect(tmp_path, rollouts=1, env_kwargs={"max_episode_steps": 3})
    rollout = read_rollout(path)
    assert (len(rollout), rollout.truncated, rollout.terminals.any()) == (3, True, False)


def test_an_end_at_the_limit_is_an_end(tmp_path: Path) -> None:
    (path,) = collect(tmp_path, rollouts=1, steps=6, env_kwargs={"length": 6})
    rollout = read_rollout(path)
    assert (len(rollout), rollout.truncated, rollout.terminals[-1]) == (6, False, 1)


def test_every_rollout_is_another_episode_fault_4(tmp_path: Path) -> None:
    """Fault 4: every rollout of the set was the same track."""
    rollouts = [read_rollout(path) for path in collect(tmp_path, rollouts=6, num_workers=2)]
    assert [rollout.seed for rollout in rollouts] == [
        episode_seed("collect", 0, i) for i in range(6)
    ]
    assert len({int(rollout.observations[0, 0, 0, 1]) for rollout in rollouts}) == 6
    assert len({rollout.actions.tobytes() for rollout in rollouts}) == 6


def test_collected_episodes_are_never_evaluated(tmp_path: Path) -> None:
    seeds = {read_rollout(path).seed for path in collect(tmp_path, seed=3)}
    for purpose in set(PURPOSES) - {"collect"}:
        assert not seeds & {episode_seed(purpose, seed, i) for seed in range(5) for i in range(100)}


def test_the_executed_action_is_the_stored_one_fault_15(tmp_path: Path) -> None:
    """Fault 15: the environment clipped the action, and M was given the unclipped one."""
    wild = lambda frame: np.array([9.0, -9.0]) if frame[0, 0, 0] % 2 else LOW  # noqa: E731
    (path,) = collect(tmp_path, rollouts=1, policy=wild)
    rollout = read_rollout(path)
    expected = [LOW if t % 2 == 0 else (HIGH[0], LOW[1]) for t in range(len(rollout))]
    np.testing.assert_array_equal(rollout.actions, expected)
    check_time(rollout, rollout.actions)


def test_a_function_sees_the_frame_it_acts_on(tmp_path: Path) -> None:
    (path,) = collect(tmp_path, rollouts=1, policy=lambda frame: [0, frame[0, 0, 0] / 10])
    rollout = read_rollout(path)
    np.testing.assert_allclose(rollout.actions[:, 1], np.arange(len(rollout)) / 10, rtol=1e-6)


@pytest.mark.parametrize("policy", ["brownian", "held"])
def test_policies_by_name(tmp_path: Path, policy: str) -> None:
    for path in collect(tmp_path, policy=policy, rollouts=2):
        rollout = read_rollout(path)
        check_time(rollout, rollout.actions)


WORLDS = [
    ("CarRacing-v3", {}, 3),
    ("CarRacing-v3", {"continuous": False}, 5),
    ("LunarLander-v3", {}, 4),
    ("LunarLander-v3", {"continuous": True}, 2),
    ("Pendulum-v1", {}, 1),
]


@pytest.mark.parametrize(("env", "kwargs", "size"), WORLDS)
def test_any_gymnasium_environment(tmp_path: Path, env: str, kwargs: dict, size: int) -> None:
    for path in collect(tmp_path, env, 2, 6, env_kwargs=kwargs, num_workers=2):
        rollout = read_rollout(path)
        assert rollout.observations.shape == (6, 64, 64, 3)
        assert rollout.actions.shape == (6, size)
        assert rollout.observations.std() > 1  # a picture, not a blank
        if size > 3:  # the discrete ones
            assert rollout.actions.sum(-1).tolist() == [1] * 6
        assert rollout.env_id.startswith(env)


# ---------------------------------------------------------------------------- exactly these files


def test_exactly_the_files_asked_for(tmp_path: Path) -> None:
    paths = collect(tmp_path / "new" / "folder", rollouts=3)
    assert [path.name for path in paths] == [f"rollout_{i:06d}.npz" for i in range(3)]
    assert sorted((tmp_path / "new" / "folder").iterdir()) == paths


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the number of processes, and so of waves: 5 episodes in waves of 1, 2 and 5."""
    for workers in (1, 2, 5):
        collect(tmp_path / str(workers), rollouts=5, num_workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "5")
    collect(tmp_path / "other", rollouts=5, seed=1)
    assert not set(contents(tmp_path / "other").values()) & set(contents(tmp_path / "1").values())


def test_carracing_repeats_byte_for_byte(tmp_path: Path) -> None:
    """The real world, on the backend that is used by default here."""
    for name, workers in (("a", 2), ("b", 1)):
        collect(tmp_path / name, "CarRacing-v3", 2, 8, num_workers=workers, policy="brownian")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    rollout = read_rollout(tmp_path / "a" / "rollout_000000.npz")
    assert rollout.env_id == f"CarRacing-v3 ({choose_backend('CarRacing-v3')})"


def test_a_second_call_adds_what_is_missing(tmp_path: Path) -> None:
    paths = collect(tmp_path, rollouts=5)
    before = contents(tmp_path)
    for i in (1, 3):
        paths[i].unlink()
    dates = {path: path.stat().st_mtime_ns for path in paths if path.exists()}
    assert collect(tmp_path, rollouts=5) == paths
    assert contents(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in dates} == dates  # the others were left alone


def test_a_larger_set_begins_with_the_smaller(tmp_path: Path) -> None:
    collect(tmp_path / "a", rollouts=2)
    collect(tmp_path / "a", rollouts=4)
    collect(tmp_path / "b", rollouts=4)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_complete_set_needs_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = collect(tmp_path, rollouts=2)
    monkeypatch.setattr("wmlib.collect.make_vector_env", None)
    assert collect(tmp_path, rollouts=2) == paths


def test_episodes_of_another_game_or_seed_are_refused(tmp_path: Path) -> None:
    collect(tmp_path, rollouts=2)
    with pytest.raises(ValueError, match=r"000000\.npz was recorded with env_name = Counting-v0"):
        collect(tmp_path, "trial_envs:Paying-v0", rollouts=2)
    with pytest.raises(ValueError, match=r"000000\.npz was recorded with seed = \d+, now \d+"):
        collect(tmp_path, rollouts=2, seed=99)


# ------------------------------------------------------------------------------- what goes wrong


@pytest.mark.fast
def test_a_dead_process_keeps_the_finished_episodes_fault_12(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 12: a worker that died left its master waiting for ever, and the work was lost."""
    mortal = "trial_envs:Mortal-v0"  # each process survives one episode
    with monkeypatch.context() as patch:
        patch.setattr("wmlib.fast.processes.LIVES", 1)  # and is not replaced
        with pytest.raises(RuntimeError, match=f"a process of {mortal} died .*the same command"):
            collect(tmp_path, mortal, rollouts=4, num_workers=2)
    assert sorted(contents(tmp_path)) == ["rollout_000000.npz", "rollout_000001.npz"]
    collect(tmp_path, mortal, rollouts=4, num_workers=2)
    for i in range(4):
        rollout = read_rollout(tmp_path / f"rollout_{i:06d}.npz")
        check_time(rollout, rollout.actions)


def test_processes_that_die_are_replaced_and_nothing_differs(tmp_path: Path) -> None:
    for name, lives in (("mortal", 1), ("lasting", 9)):
        options = {"rollouts": 6, "num_workers": 2, "env_kwargs": {"lives": lives}}
        collect(tmp_path / name, "trial_envs:Mortal-v0", **options)
    assert contents(tmp_path / "mortal") == contents(tmp_path / "lasting")


def test_an_unknown_environment_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'CarRacing-v2' cannot be made.*CarRacing-v3"):
        collect(tmp_path / "new", "CarRacing-v2")
    assert not (tmp_path / "new").exists()


def test_an_unknown_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"policy must be one of .*'expert'"):
        collect(tmp_path, policy="expert")


@pytest.mark.parametrize(("rollouts", "steps"), [(0, 5), (2, 0)])
def test_nothing_to_collect_is_refused(tmp_path: Path, rollouts: int, steps: int) -> None:
    with pytest.raises(ValueError, match=f"num_rollouts {rollouts} and seq_len {steps} must be"):
        collect(tmp_path, rollouts=rollouts, steps=steps)


def test_silence_can_be_had(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    collect(tmp_path, rollouts=1)
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------- play


def steps_of(env: str, seeds: list[int], act: Any, limit: int = 50, patience: int = 0) -> list:
    envs = make_vector_env(env, len(seeds))
    policy = make_policy(act, envs.action_space, limit)
    steps = list(play(envs, policy, seeds, limit, patience))
    envs.close()
    return steps


def test_episodes_that_end_leave_the_batch() -> None:
    seeds = [0, 3, 6]
    steps = steps_of(COUNTING, seeds, "random")
    lengths = [sum(row in step.rows for step in steps) for row in range(3)]
    assert lengths == [episode_length(seed) for seed in seeds]
    for t, step in enumerate(steps):
        assert step.frames[:, 0, 0, 0].tolist() == [t] * len(step.rows)
        assert step.next_frames[:, 0, 0, 1].tolist() == [seeds[row] for row in step.rows]
        assert step.terminated.tolist() == [t + 1 == lengths[row] for row in step.rows]


def test_patience_ends_an_episode_that_earns_nothing() -> None:
    """Row 0 earns to the end; row 1 earns at steps 0 and 1 only, and is ended 4 steps later."""

    def act(frame: np.ndarray) -> list[float]:
        count, seed = frame[0, 0, :2]
        return [1.0 if seed == 6 or count < 2 else -0.5, 0]

    steps = steps_of("trial_envs:Paying-v0", [6, 13], act, patience=4)
    last = {int(row): (t, s) for t, s in enumerate(steps) for row in s.rows}
    t, step = last[1]
    (at,) = np.flatnonzero(step.rows == 1)
    assert t == 5
    assert (step.impatient[at], step.truncated[at], step.terminated[at]) == (True, True, False)
    t, step = last[0]
    assert t == episode_length(6) - 1
    assert (step.impatient[0], step.truncated[0], step.terminated[0]) == (False, False, True)


def test_a_row_that_patience_ended_is_not_stepped_on() -> None:
    envs = make_vector_env("trial_envs:Paying-v0", 2)
    policy = make_policy(lambda frame: [1 if frame[0, 0, 1] == 6 else -1, 0], envs.action_space, 50)
    steps = play(envs, policy, [6, 13], 50, patience=2)
    running = [next(steps).rows.tolist() for _ in range(3)]
    assert running == [[0, 1], [0, 1], [0]]
    assert envs.vector.get_attr("resting") == (False, True)
    envs.close()


def test_patience_of_nought_never_ends() -> None:
    steps = steps_of("trial_envs:Paying-v0", [6], lambda frame: [-1.0, 0.0])
    assert len(steps) == episode_length(6)
    assert not any(step.impatient.any() for step in steps)


def test_told_actions_are_the_executed_ones() -> None:
    for step in steps_of("counting_env:CountingDiscrete-v0", [1, 2], "random"):
        executed = step.actions.argmax(-1) + 1
        levels = [action_level(action) for action in executed]
        assert step.next_frames[:, 0, 0, 2].tolist() == levels
