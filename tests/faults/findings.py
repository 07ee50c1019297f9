"""What the first attack found, finding by finding: each is a case with the finding's number.

The first attack (at commit 13d56ae) had 25 findings. The other campaigns meet most of them many
times; here each is met once, by name, so that none can be forgotten.
"""

import importlib.util
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import damage
import hands
import torch
from kills import Case
from tiny import Bench, Settings, contents, finish, go_on, start, train, within

import wmlib.checkpoints
from wmlib import WMControllerConfig
from wmlib.checkpoints import load_checkpoint, write_json

Finding = Callable[[Bench], str]  # says what is wrong; empty if nothing is
STAGES = ("vae", "mdrnn", "ctrl")
TARS = [f"{stage}/{name}.tar" for stage in STAGES for name in ("best", "checkpoint")]


def _refused(work: Callable[[], Any], *words: str) -> str:
    """Whether work ends in an error that says these words."""
    outcome = within(work)
    said = outcome.kind == "error" and all(word in outcome.text for word in words)
    return "" if said else f"{outcome.kind}, not an error with {words}: {outcome.text[-200:]}"


def _ends_as_wanted(bench: Bench, folder: Path, settings: Settings | None = None) -> str:
    outcome = within(lambda: train(folder, settings))
    if outcome.kind != "done":
        return f"{outcome.kind}: {outcome.text[-200:]}"
    return "" if contents(folder) == bench.wanted else "another result"


def _changed(bench: Bench, name: str, kind: str, table: dict[str, Any]) -> str:
    """What a training makes of a file that says what cannot be."""
    folder = bench.fresh(damage.stage_of(name))
    damage.change_file(folder / name, table[kind])
    problem = damage.judge(bench, folder, folder / name, reads=False)
    return f"{name}, {kind}: {problem}" if problem else ""


def _lines(bench: Bench, *lines: str) -> str:
    """The first of these command lines that does not end in one sentence."""
    cases = hands.typed(bench, list(lines))
    return next((f"{name}: {problem}" for name, problem in cases if problem), "")


def foreign_checkpoints_run_no_code(bench: Bench) -> str:
    path = bench.fresh("all") / "vae" / "best.tar"
    torch.jit.save(torch.jit.script(damage.Script()), str(path))
    gone = importlib.util.find_spec("wmlib.foreign") is None
    return _refused(lambda: load_checkpoint(path), path.name) or ("" if gone else "still there")


def moments_of_another_shape_write_nowhere(bench: Bench) -> str:
    return _changed(bench, "vae/checkpoint.tar", damage.FINDING_2, damage.STATES)


def what_is_no_number_gets_no_score(bench: Bench) -> str:
    found = [
        _changed(bench, f"{stage}/best.tar", "a weight is NaN", damage.WEIGHTS) for stage in STAGES
    ]
    sigma = _refused(lambda: WMControllerConfig(4, 8, 2, sigma0=1e300), "sigma0")
    folder = bench.fresh()
    action = _refused(lambda: damage.play_nan(folder), "no number")
    return next(filter(None, [*found, sigma, action]), "")


def a_flipped_bit_is_noticed(bench: Bench) -> str:
    for name in TARS:
        folder = bench.fresh(damage.stage_of(name))
        path = folder / name
        path.write_bytes(damage.flip(path.read_bytes(), bench.rng))
        if problem := damage.judge(bench, folder, path, reads=True):
            return f"{name}: {problem}"
    return damage.flipped_weights(bench)


def the_cure_helps(bench: Bench) -> str:
    for name in (*TARS, "ctrl/search.json", "vae/history.json", "mdrnn/history.json"):
        folder = bench.fresh("all")
        (folder / name).unlink()
        if problem := _ends_as_wanted(bench, folder):
            return f"{name} deleted: {problem}"
    return ""


def no_name_leaves_its_folder(bench: Bench) -> str:
    return _lines(bench, "--ctrl_name vae", "--ctrl_name ../../evil", "--ctrl_name /evil")


def pictures_are_drawn_after_a_kill(bench: Bench) -> str:
    folder, replace = bench.fresh(), Path.replace

    def renamed(self: Path, target: Path) -> Path:
        if Path(target).parent.name == "samples":
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    def work() -> None:
        Path.replace = renamed  # type: ignore[method-assign, assignment]
        train(folder)

    if within(work).kind != "killed":
        return "nothing was drawn"
    return _ends_as_wanted(bench, folder)


def the_search_is_one_file(bench: Bench) -> str:
    """``axes.npz`` is gone: what the search's coordinates mean stands in its settings, by name."""
    if found := list((bench.straight / "ctrl").glob("*.npz")):
        return f"{found} is read by nobody"
    return _changed(bench, "ctrl/search.json", damage.FINDING_8, damage.RECORDS)


def wrong_types_end_in_a_sentence(bench: Bench) -> str:
    table: list[tuple[str, dict[str, Any], list[str]]] = [
        ("vae/history.json", damage.HISTORIES, list(damage.HISTORIES)),
        ("ctrl/search.json", damage.RECORDS, ["fitness is a number", "rows are null",
            "settings are empty", "fitness is empty", "fitness doubled"]),
        ("vae/best.tar", damage.WEIGHTS, ["weights are a number", "a weight is text",
            "a weight is whole numbers"]),
        ("vae/checkpoint.tar", damage.STATES, ["optimizer is empty", "scheduler is empty",
            "optimizer has no state", "history is empty"]),
        ("data/rollout_000001.npz", damage.ARRAYS, ["seed of two numbers"]),
        ("data/latents/latents_4.npz", damage.LATENTS, ["cut short, its fingerprint kept"]),
    ]  # fmt: skip
    problems = (_changed(bench, name, kind, kinds) for name, kinds, few in table for kind in few)
    return next(filter(None, problems), "")


def other_settings_are_named(bench: Bench) -> str:
    for stage, other, word in (
        ("vae", Settings(seed=4), "seed"),
        ("vae", Settings(batch=8), "batch"),
        ("mdrnn", Settings(seed=4), "seed"),
        ("mdrnn", Settings(env="trial_envs:Paying-v0"), "env_name"),
        ("ctrl", Settings(time_limit=19), "time_limit"),
        ("ctrl", Settings(samples=2), "n_samples"),
        ("ctrl", Settings(sigma0=0.2), "sigma0"),
    ):
        folder = bench.fresh(stage)
        if problem := _refused(lambda folder=folder, other=other: train(folder, other), word):
            return f"{stage}, {word}: {problem}"
        if problem := _ends_as_wanted(bench, folder):  # and what was refused did no harm
            return f"{stage}, {word}, then as before: {problem}"
    return ""


def a_stopped_process_is_replaced(bench: Bench) -> str:
    deaf = [problem for _, problem in hands.workers(bench, 8)][-1]  # the eighth is stopped
    return deaf or next(filter(None, (problem for _, problem in hands.orphans(bench, 2))), "")


def one_folder_has_one_holder(bench: Bench) -> str:
    folder, begun = bench.fresh(), bench.home / f"begun_{bench.count}"

    def hold() -> None:
        with wmlib.checkpoints.locked(folder):
            begun.touch()
            time.sleep(1)
            go_on(folder)

    child, pipe = start(hold)
    while not begun.exists():
        time.sleep(0.01)
    problem = _refused(lambda: train(folder, Settings(sigma0=0.5)), "in use by", str(child))
    outcome = finish(child, pipe)
    same = outcome.kind == "done" and contents(folder) == bench.wanted
    return problem or ("" if same else f"the first one: {outcome.text}")


def one_file_does_not_poison_the_next(bench: Bench) -> str:
    return damage.hostile(bench, "a BUILD on a trusted function (finding 13)")


def weights_bring_in_no_module(bench: Bench) -> str:
    return damage.hostile(bench, "weights name a module (finding 14)")


def unused_keys_are_not_read(bench: Bench) -> str:
    return damage.hostile(bench, "a key of a gigabyte (finding 24)")


def an_unknown_stage_is_refused(bench: Bench) -> str:
    return _lines(bench, "--stage ablation")


def nan_in_the_final_evaluation(bench: Bench) -> str:
    """C is trained in the counting world, and judged where some rewards are NaN."""
    folder = bench.fresh("all")
    (folder / "report.json").unlink()

    def judge() -> None:
        import tiny

        tiny.report(folder, Settings(env="trial_envs:LateNaN-v0"))

    problem = _refused(judge, "nan")
    return problem or ("a report was written" if (folder / "report.json").exists() else "")


def a_full_disk_is_named(bench: Bench) -> str:
    cases = damage.full_disk(bench, len(damage.FULL))
    return next(filter(None, (problem for _, problem in cases)), "")


def environments_that_fail_are_named(bench: Bench) -> str:
    broken = [f"--env {module}:E-v0" for module in hands.BROKEN]
    bad = ["--env_kwargs [1]", "--env_kwargs 5", '--env_kwargs {"nonsense":1}']
    return _lines(bench, *bad, *broken)


def unclear_lines_are_clear(bench: Bench) -> str:
    lines = ("--seed 12345678901234567890123", "--env :", "--no-ctrl_use_h")
    found = [_lines(bench, *lines), *(problem for _, problem in hands.workers(bench, 1))]
    return next(filter(None, found), "")


def what_cannot_work_is_said_first(bench: Bench) -> str:
    problem = _lines(bench, "--episodes 0", "--report /proc/x/y", "--rnn_seq_len 500")
    trained = list((bench.home / "lines").rglob("*.tar"))
    return problem or (f"trained first: {trained}" if trained else "")


def a_device_is_not_replaced(bench: Bench) -> str:
    problem = _refused(lambda: write_json("/dev/full", {"rows": []}), "no ordinary file")
    problem = problem or _lines(bench, "--report /dev/full")
    return problem or ("" if Path("/dev/full").is_char_device() else "it is gone")


def signals_end_it_with_a_word(bench: Bench) -> str:
    cases = hands.signals(bench, len(hands.NAMES))
    problem = next(filter(None, (problem for _, problem in cases)), "")
    return problem or hands.early(bench, module=True) or hands.early(bench, module=False)


def nothing_half_written_stays(bench: Bench) -> str:
    folder = bench.fresh()

    def work() -> None:
        def never(descriptor: int) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        wmlib.checkpoints.os.fsync = never  # type: ignore[assignment]
        train(folder)

    within(work)
    if not list(folder.rglob(".writing-*")):
        return "nothing was half written"
    problem = _ends_as_wanted(bench, folder)
    left = list(folder.rglob(".writing-*"))
    return problem or (f"{left} are left" if left else "")


def files_are_on_the_disk_before_they_are_renamed(bench: Bench) -> str:
    folder = bench.fresh()

    def work() -> list[str]:
        order, sync, replace = [], os.fsync, Path.replace

        def synced(descriptor: int) -> None:
            order.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            sync(descriptor)

        def renamed(self: Path, target: Path) -> Path:
            order.append(f"renamed {self.resolve()}")
            return replace(self, target)

        wmlib.checkpoints.os.fsync, Path.replace = synced, renamed  # type: ignore[assignment, method-assign]
        train(folder)
        return order

    order = within(work).value or []
    renamed = [i for i, entry in enumerate(order) if entry.startswith("renamed ")]
    early = [i for i in renamed if i == 0 or order[i] != f"renamed {order[i - 1]}"]
    return "" if renamed and not early else f"{len(early)} of {len(renamed)} were not synced"


FINDINGS: dict[int, Finding] = {
    1: foreign_checkpoints_run_no_code,
    2: moments_of_another_shape_write_nowhere,
    3: what_is_no_number_gets_no_score,
    4: a_flipped_bit_is_noticed,
    5: the_cure_helps,
    6: no_name_leaves_its_folder,
    7: pictures_are_drawn_after_a_kill,
    8: the_search_is_one_file,
    9: wrong_types_end_in_a_sentence,
    10: other_settings_are_named,
    11: a_stopped_process_is_replaced,
    12: one_folder_has_one_holder,
    13: one_file_does_not_poison_the_next,
    14: weights_bring_in_no_module,
    15: nan_in_the_final_evaluation,
    16: a_full_disk_is_named,
    17: environments_that_fail_are_named,
    18: unclear_lines_are_clear,
    19: what_cannot_work_is_said_first,
    20: a_device_is_not_replaced,
    21: an_unknown_stage_is_refused,
    22: signals_end_it_with_a_word,
    23: nothing_half_written_stays,
    24: unused_keys_are_not_read,
    25: files_are_on_the_disk_before_they_are_renamed,
}


def findings(bench: Bench, cases: int) -> Iterator[Case]:
    """The numbered findings of the first attack: all of them, or so many."""
    for number in sorted(bench.rng.permutation(list(FINDINGS))[:cases].tolist()):
        finding = FINDINGS[number]
        yield f"finding {number}: {finding.__name__.replace('_', ' ')}", finding(bench)
