"""Environments in processes of their own: what they show, and what becomes of them."""

import multiprocessing
from collections.abc import Callable

import numpy as np
import pytest

from wmlib.envs import ActionMap, make_image_env
from wmlib.fast.processes import Processes
from wmlib.policies import make_policy
from wmlib.vector_envs import VectorImageEnv, make_vector_env

COUNTING = "counting_env:Counting-v0"
MIDDLE = np.float32([[0, 1], [0.5, 2], [-1, 0]])  # actions within the bounds
WORLDS = [
    (COUNTING, {}, 20),
    ("counting_env:CountingDiscrete-v0", {"size": 96}, 20),
    ("LunarLander-v3", {}, 40),
    ("CarRacing-v3", {}, 4),
]


def story(make: Callable[..., VectorImageEnv], name: str, kwargs: dict, steps: int) -> list:
    """Everything that three rows show: two episodes each, those that end rest."""
    envs, told = make(name, 3, kwargs), []
    policy = make_policy("random", envs.action_space, steps)
    to_env = ActionMap(envs.action_space).to_env
    for seeds in ([5, 90, 1234], [7, 8]):
        frames, rows = envs.reset(seeds), np.arange(len(seeds))
        policy.start(seeds)
        told.append((frames,))
        for t in range(steps):
            step = envs.step(rows, to_env(policy.act(frames, rows)))
            told.append((rows, *step))
            going = ~(step[2] | step[3])
            if t == 2:  # put to rest in the middle of its episode
                going[-1] = False
            if not going.all():
                envs.rest(rows[~going])
            frames, rows = step[0][going], rows[going]
            if not len(rows):
                break
    envs.close()
    return told


@pytest.mark.parametrize(("name", "kwargs", "steps"), WORLDS)
def test_processes_and_turns_tell_the_same_story(name: str, kwargs: dict, steps: int) -> None:
    """The same frames, rewards and ends for the same seeds, whichever way rows are stepped."""
    turns, processes = (story(make, name, kwargs, steps) for make in (VectorImageEnv, Processes))
    assert len(turns) == len(processes) > 8
    for one, other in zip(turns, processes, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def test_several_rows_are_processes_and_one_is_not() -> None:
    for rows, kind in ((1, VectorImageEnv), (2, Processes)):
        envs = make_vector_env(COUNTING, rows)
        assert type(envs) is kind
        assert envs.backend == "gymnasium"
        envs.close()


def test_rows_beyond_the_episodes_rest() -> None:
    envs = make_vector_env(COUNTING, 3)
    envs.reset([7])
    assert envs.vector.get_attr("resting") == (False, True, True)
    envs.close()


def test_processes_show_what_one_environment_shows() -> None:
    envs, alone = make_vector_env("LunarLander-v3", 2), make_image_env("LunarLander-v3")
    frames = envs.reset([3, 4])
    np.testing.assert_array_equal(frames[1], alone.reset(seed=4)[0])
    for _ in range(3):
        frames, rewards, *_ = envs.step(np.arange(2), np.array([1, 2]))
        frame, reward, *_ = alone.step(2)
        np.testing.assert_array_equal(frames[1], frame)
        assert rewards[1] == pytest.approx(reward)
    envs.close()
    alone.close()


def test_closing_ends_the_processes() -> None:
    before = set(multiprocessing.active_children())
    envs = make_vector_env(COUNTING, 2)
    envs.reset([0, 1])
    assert len(set(multiprocessing.active_children()) - before) == 2
    envs.close()
    assert not set(multiprocessing.active_children()) - before


def test_a_dead_process_is_one_sentence_and_no_wait_fault_12() -> None:
    """Fault 12: a worker that dies leaves the master waiting for ever."""
    before = set(multiprocessing.active_children())
    envs = make_vector_env("trial_envs:Mortal-v0", 2, env_kwargs={"lives": 0})
    envs.reset([0, 1])

    def play() -> None:
        for _ in range(8):
            envs.step(np.arange(2), MIDDLE[:2])

    with pytest.raises(RuntimeError, match=r"a process of trial_envs:Mortal-v0 died .*again"):
        play()
    envs.close()
    for process in set(multiprocessing.active_children()) - before:
        process.join(10)
    assert not set(multiprocessing.active_children()) - before


def test_a_process_killed_between_two_episodes_is_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    envs = make_vector_env(COUNTING, 2)
    envs.reset([0, 1])
    envs.vector.processes[1].kill()
    frames = envs.reset([2, 3])
    envs.close()
    assert f"a process of {COUNTING} died or hung: replaced" in capsys.readouterr().out
    undisturbed = make_vector_env(COUNTING, 2)
    assert np.array_equal(frames, undisturbed.reset([2, 3]))
    undisturbed.close()
