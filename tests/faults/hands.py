"""Whoever stops it, whoever else is at it, and whatever is typed."""

import contextlib
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from kills import Case
from tiny import ENV, ROOT, Bench, contents, finish, go_on, start, train, within

import wmlib.__main__ as door
import wmlib.fast.processes as processes
from wmlib import generate_rollouts, make_env, make_policy

SCRIPT = "from wmlib import command; sys.exit(command())"  # pyproject.toml's, as pip writes it
NAMES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def _status(*words: str) -> tuple[int, str]:
    """The command line's exit status, and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = door.main(list(words))
        except SystemExit as stop:  # argparse
            status = int(str(stop.code))
    return status, said.getvalue()


def signals(bench: Bench, cases: int) -> Iterator[Case]:
    """SIGINT, SIGTERM and SIGHUP at any instant (findings 14 and 22 of the review)."""
    for number in range(cases):
        name = list(NAMES)[number % 3]
        if number % 25 == 24:
            yield f"{name} while the command line loads", early(bench, module=number % 2 == 0)
            continue
        folder = bench.fresh()

        def work(folder: Path = folder) -> tuple[int, str]:
            door._train = lambda args: go_on(folder)  # type: ignore[assignment]
            door._test = lambda args, logdir: None  # type: ignore[assignment]
            return _status("--env", ENV, "--logdir", str(folder))

        child, pipe = start(work)
        time.sleep(float(bench.rng.uniform(0.02, 0.4)))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, getattr(signal, name))
        outcome = finish(child, pipe)
        wrong = outcome.text
        if outcome.kind == "done":
            status, said = outcome.value
            wrong = "" if status == 0 or (status == NAMES[name] and "go on with" in said) else said
        elif outcome.kind == "killed" and outcome.text in ("SIGTERM", "SIGHUP"):
            wrong = ""  # so early that the command line had not begun
        again = within(lambda folder=folder: train(folder))
        if not wrong and (again.kind != "done" or contents(folder) != bench.wanted):
            wrong = f"not resumed: {again.text}"
        left = [path.name for path in folder.rglob(".writing-*")]
        yield name, wrong or (f"left behind: {left}" if left else "")


def early(bench: Bench, module: bool) -> str:
    """Ctrl-C while the command line loads: ``python -m wmlib``, or what pip makes of the script."""
    words = ["--env", ENV, "--logdir", str(bench.fresh())]
    begin = ["-m", "wmlib"] if module else ["-c", f"import sys; sys.argv[0] = 'wmlib'; {SCRIPT}"]
    begun = subprocess.Popen(
        [sys.executable, *begin, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=bench.home, env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests"},
    )  # fmt: skip
    time.sleep(float(bench.rng.uniform(0.3, 1.5)))
    begun.send_signal(signal.SIGINT)
    try:
        said, _ = begun.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        begun.kill()
        return f"it goes on: {begun.communicate()[0]}"
    return "" if begun.returncode == 130 and "Traceback" not in said else said or "another status"


class _Saboteur:
    """A policy that lets something happen to a process of its game, once."""

    def __init__(self, number: int, deed: int) -> None:
        self.policy = make_policy("random", make_env(ENV).action_space, 20)
        self.left, self.deed = number, deed

    def start(self, seeds: Any) -> None:
        self.policy.start(seeds)

    def act(self, frames: np.ndarray, rows: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left == 0:
            os.kill(random.choice(multiprocessing.active_children()).pid or 0, self.deed)
        return self.policy.act(frames, rows)


def workers(bench: Bench, cases: int) -> Iterator[Case]:
    """A process of a game dies or is stopped: the same files come of it (finding 11)."""
    processes.PATIENCE = 2.0
    folder = bench.fresh()

    def collect(folder: Path, deed: int, number: int) -> None:
        policy = _Saboteur(number, deed)
        generate_rollouts(
            folder, ENV, 4, 20, 2, 3, policy=policy, backend="gymnasium", display=False
        )

    assert within(lambda: collect(folder, 0, 0)).kind == "done"
    wanted = contents(folder)
    for number in range(cases):
        deed, when = (signal.SIGKILL, signal.SIGSTOP)[number % 8 == 7], number % 13 + 1
        again = bench.fresh()
        outcome = within(lambda: collect(again, deed, when))  # noqa: B023
        same = outcome.kind == "done" and contents(again) == wanted
        yield f"{deed.name} to a game's process", "" if same else outcome.text or "other files"


def orphans(bench: Bench, cases: int) -> Iterator[Case]:
    """The main process is killed: those of its games end, whatever they are at."""
    for number in range(cases):
        ids = bench.home / f"ids_{number}"

        def work(ids: Path = ids) -> None:
            games = processes.Processes(ENV, 2, {})
            games.reset([1, 2])
            children = multiprocessing.active_children()
            ids.with_suffix(".part").write_text(" ".join(str(child.pid) for child in children))
            ids.with_suffix(".part").replace(ids)
            time.sleep(60)

        child, pipe = start(work)
        while not ids.exists():
            time.sleep(0.02)
        games = [int(word) for word in ids.read_text().split()]
        if number % 2:
            os.kill(games[0], signal.SIGSTOP)
        os.kill(child, signal.SIGKILL)
        finish(child, pipe)
        deadline = time.monotonic() + 5
        while (alive := [game for game in games if _lives(game)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield "the main process is killed", f"{alive} still run" if alive else ""


def _lives(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def two_at_once(bench: Bench, cases: int) -> Iterator[Case]:
    """Two trainings in one folder: one works, the other is told who does (finding 12)."""
    for _ in range(cases):
        folder = bench.fresh()
        both = [start(lambda folder=folder: train(folder)) for _ in range(2)]
        ends = [finish(*one) for one in both]
        wrong = [
            end.text
            for end in ends
            if end.kind != "done" and not (end.kind == "error" and "is in use by" in end.text)
        ]
        again = within(lambda folder=folder: train(folder))
        if not wrong and (again.kind != "done" or contents(folder) != bench.wanted):
            wrong = [f"another result: {again.text}"]
        yield "two at once", "; ".join(wrong)


BROKEN = {
    "broken_syntax": "def",
    "broken_import": "import no_such_module",
    "broken_init": "import gymnasium as g\nclass E(g.Env):\n    def __init__(self, **k): {}['x']\n",
    "broken_step": "from counting_env import *\nclass E(CountingEnv):\n"
    "    def step(self, a): return {}['x']\n",
    "broken_reset": "from counting_env import *\nclass E(CountingEnv):\n"
    "    def reset(self, **k): return {}['x']\n",
    "broken_render": "from counting_env import *\nclass E(CountingEnv):\n"
    "    def __init__(self, **k): super().__init__(pictures=False)\n"
    "    def render(self): return None\n",
}
LINES = [
    "--env No-v0", "--env :", "--env x:", "--env no_module:X-v0", "--env ..", "--env CarRacing-v2",
    "--env_kwargs [1]", "--env_kwargs 5", "--env_kwargs {", '--env_kwargs {"nonsense":1}',
    "--episodes 0", "--episodes -1", "--episodes x", "--num_rollouts 0", "--policy nonsense",
    "--seed -1", "--seed 12345678901234567890123", "--seed x", "--stage nonsense",
    "--stage ablation", "--ctrl_name vae", "--ctrl_name ../../evil", "--no-ctrl_use_h",
    "--preset nonsense", "--report /dev/full", "--report /proc/x/y", "--report /dev/null/r",
    "--latent_size 0", "--rnn_hidden 0", "--vae_epochs 0", "--rnn_seq_len 0", "--ctrl_sigma0 1e300",
    "--ctrl_sigma0 nan", "--ctrl_pop_size 1", "--vae_learning_rate inf", "--vae_beta -1",
    "--device nonsense", "--ctrl_evaluator nonsense", "--ctrl_n_samples 0", "--nonsense 1",
    "--stage rnn", "--stage ctrl", "--test", "--test --logdir nowhere", "--rnn_seq_len 500",
    *[f"--env {module}:E-v0" for module in BROKEN],
]  # fmt: skip


def typed(bench: Bench, lines: list[str]) -> Iterator[Case]:
    """What cannot be meant ends in one sentence, whatever was typed before."""
    place = bench.home / "lines"
    place.mkdir(exist_ok=True)
    for module, text in BROKEN.items():
        if "class E" in text:
            text += f"\nimport gymnasium\ngymnasium.register('E-v0', '{module}:E')\n"
        (place / f"{module}.py").write_text(text, encoding="utf-8")
    for line in lines:
        words = ["--env", ENV, "--preset", "smoke", *line.split(" ")]

        here = place / f"line_{bench.count}"
        bench.count += 1
        here.mkdir()

        def work(words: list[str] = words, here: Path = here) -> tuple[int, str]:
            os.chdir(here)
            sys.path.insert(0, str(place))
            return _status(*words)

        outcome = within(work)
        wrong = outcome.text.strip().rpartition("\n")[2] if outcome.kind != "done" else ""
        if outcome.kind == "done":
            status, said = outcome.value
            last = said.strip().rpartition("\n")[2]
            if status not in (1, 2) or "Traceback" in said or not last.startswith("wmlib: "):
                wrong = f"status {status}: {last}"
            else:
                bench.said[line] = last
        yield f"wmlib {line}", wrong


def command_line(bench: Bench, cases: int) -> Iterator[Case]:
    """Lines that cannot be meant (findings 17 to 21)."""
    return typed(bench, [LINES[number % len(LINES)] for number in range(cases)])
