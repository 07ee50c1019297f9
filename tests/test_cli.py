"""The command line: its flags, words and exit status; whatever happens to it costs no work."""

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import wmlib.__main__ as cli
from wmlib import Agent, load_trained
from wmlib.__main__ import SHARED, STAGES, main
from wmlib.checkpoints import load_checkpoint, save_checkpoint
from wmlib.devices import has_bf16
from wmlib.envs import TAKE_COVER
from wmlib.pipeline import PRESETS, Run

COUNTING = "counting_env:Counting-v0"
MORTAL = "trial_envs:Mortal-v0"
TESTS = Path(__file__).parent
KEYS = {"agent", "env_id", "backend", "episodes", "seed", "mean", "std", "ci95", "returns"}
KEYS |= {"versions", "hardware"}
# The flags of the reference page, as they stand, but for the environment that is gone.
PAGE = """
--env CarRacing-v3
--env CarRacing-v3 --stage vae
--env CarRacing-v3 --stage rnn
--env CarRacing-v3 --stage ctrl
--env CarRacing-v3 --generate_only
--env CarRacing-v3 --test
--env CarRacing-v3 --data_dir ./data/carracing --logdir ./results/carracing --latent_size 16 \
 --rnn_hidden 128 --vae_epochs 50 --rnn_epochs 31 --ctrl_pop_size 16
"""


def words(folder: Path, *more: str, env: str = COUNTING) -> list[str]:
    """A smoke run in small."""
    places = ["--data_dir", str(folder / "data"), "--logdir", str(folder / "log")]
    small = ["--vae_epoch_size", "16", "--ctrl_max_workers", "1", "--no-ctrl_display"]
    return ["--env", env, "--preset", "smoke", *places, *small, *more]


def parse(*argv: str) -> Run:
    args = cli._parser().parse_args([*argv, "--data_dir", "data", "--logdir", "log"])
    return cli._run(args)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a smoke run leaves. Do not write."""
    folder = tmp_path_factory.mktemp("smoke")
    assert main(words(folder)) == 0
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file but TensorBoard's, which any start may add to."""
    files = [path for path in folder.rglob("*") if path.is_file() and "tfevents" not in path.name]
    return {path: path.read_bytes() for path in files}


# ---- flags -------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", PAGE.strip().replace("\\\n", "").splitlines())
def test_the_flags_of_the_reference_page_are_understood(line: str) -> None:
    cli._parser().parse_args(line.split())


def test_the_flags_of_the_reference_page_arrive() -> None:
    line = PAGE.strip().replace("\\\n", "").splitlines()[-1].split()[2:]
    run = cli._run(cli._parser().parse_args(["--env", COUNTING, *line]))
    assert (run.data_dir, run.logdir) == ("./data/carracing", "./results/carracing")
    sizes = [c.latent_size for c in (run.vae_config, run.rnn_config, run.ctrl_config)]
    assert sizes == [16, 16, 16]
    assert run.rnn_config.hidden_size == run.ctrl_config.hidden_size == 128
    assert (run.vae_config.num_epochs, run.rnn_config.num_epochs) == (50, 31)
    assert run.ctrl_config.pop_size == 16
    assert run.rnn_config.action_size == 2  # the environment's


def other(knob: dataclasses.Field[Any]) -> Any:
    """A value that is allowed, but is not the default."""
    if knob.metadata["choices"]:
        return next(choice for choice in knob.metadata["choices"] if choice != knob.default)
    if isinstance(knob.default, bool):
        return not knob.default
    if isinstance(knob.default, str):
        return f"{knob.default}_2"
    return knob.default + 1 if isinstance(knob.default, int) else knob.default / 2 + 0.125


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_can_be_set_from_the_command_line(stage: str) -> None:
    knobs = [knob for knob in dataclasses.fields(STAGES[stage]) if knob.name not in SHARED]
    wanted = {knob.name: other(knob) for knob in knobs}
    argv = []
    for name, value in wanted.items():
        if isinstance(value, bool):
            argv.append(f"--{stage}_{name}" if value else f"--no-{stage}_{name}")
        else:
            argv += [f"--{stage}_{name}", str(value)]
    run = parse("--env", COUNTING, *argv)
    config = getattr(run, f"{stage}_config")
    assert {name: getattr(config, name) for name in wanted} == wanted


def test_fields_without_a_stage_reach_every_stage() -> None:
    run = parse("--env", COUNTING, "--seed", "7", "--device", "cpu")
    configs = (run.vae_config, run.rnn_config, run.ctrl_config)
    assert run.seed == 7
    assert all((c.seed, c.logdir) == (7, "log") for c in configs)
    assert all(c.device == "cpu" for c in configs[:2])
    assert run.vae_config.data_dir == run.rnn_config.data_dir == "data"
    assert run.ctrl_config.env_name == COUNTING


def test_further_flags_arrive() -> None:
    argv = ["--num_rollouts", "7", "--policy", "held", "--no_precompute_latents"]
    run = parse("--env", COUNTING, *argv, "--env_kwargs", '{"size": 80}')
    assert (run.rollouts[0]["num_rollouts"], run.rollouts[0]["policy"]) == (7, "held")
    assert not run.precompute
    assert run.env_kwargs == run.ctrl_config.env_kwargs == {"size": 80}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_name_fields_that_exist(preset: str) -> None:
    """An unknown key would be taken for an extra one, and pass unnoticed."""
    run = parse("--env", COUNTING, "--preset", preset)
    assert run.vae_config.extra == run.rnn_config.extra == run.ctrl_config.extra == {}
    assert run.rollouts == PRESETS[preset]["rollouts"]


def test_help_names_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for flag in ("--report", "--episodes", "--preset", "--rnn_hidden", "--vae_epochs"):
        assert flag in text
    for stage, config in STAGES.items():
        for knob in dataclasses.fields(config):
            if knob.name not in SHARED | {"num_epochs"}:
                assert f"--{stage}_{knob.name}" in text
                assert f"{knob.metadata['about']} (default: {knob.default})" in text


@pytest.mark.parametrize("argv", ["--vae_epoch 3", "--stage all_of_it", "--env_kwargs {", "--nay"])
def test_a_flag_that_is_none_is_refused(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv.split())
    assert "error:" in capsys.readouterr().err


# ---- words -------------------------------------------------------------------------------------


def test_a_run_ends_in_a_report_and_in_plain_words(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / "log" / "report.json").unlink()
    assert main(words(copy)) == 0  # every stage is finished: only the score is missing
    report = json.loads((copy / "log" / "report.json").read_text())
    assert [row["agent"] for row in report["rows"]] == ["random", "agent"]
    for row in report["rows"]:
        assert row.keys() == KEYS
        assert (row["env_id"], row["episodes"], row["seed"]) == (COUNTING, 2, 0)
    said = capsys.readouterr().out
    assert f"report: {copy / 'log' / 'report.json'}" in said
    assert re.search(r"agent: \d+ ± \d+ over 2 fresh episodes of counting_env:Counting-v0", said)
    # In the counting world no driver earns more than another.
    assert "The agent is not clearly better than random play: +0 points." in said


def test_what_it_leaves_remembers_its_environment(tmp_path: Path) -> None:
    """A folder says where it was trained; whoever loads it need not."""
    small = ["--num_rollouts", "2", "--vae_epochs", "1", "--rnn_epochs", "1", "--episodes", "1"]
    argv = [*small, "--env_kwargs", '{"length": 9}']
    assert main(words(tmp_path, *argv)) == 0
    world = load_trained(tmp_path / "log")
    assert (world.env_name, world.env_kwargs) == (COUNTING, {"length": 9})
    assert world.space() == world.agent().action_map.space
    report = json.loads((tmp_path / "log" / "report.json").read_text())
    assert [row["returns"] for row in report["rows"]] == [[36.0], [36.0]]  # 0 + 1 + … + 8


def test_weights_can_be_tested_alone(copy: Path, tmp_path: Path) -> None:
    report = tmp_path / "elsewhere" / "report.json"
    before = contents(copy / "log")
    argv = words(copy, "--test", "--report", str(report), "--episodes", "3", "--seed", "5")
    assert main(argv) == 0
    first = json.loads(report.read_text())
    assert [(row["episodes"], row["seed"]) for row in first["rows"]] == [(3, 5), (3, 5)]
    assert main(argv) == 0
    again = json.loads(report.read_text())
    assert [row["returns"] for row in again["rows"]] == [row["returns"] for row in first["rows"]]
    assert contents(copy / "log") == before


def test_the_way_of_acting_that_was_named_is_tested(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Agent] = []
    backends: list[str] = []

    def evaluated(agent: Agent, backend: str, **kwargs: Any) -> dict[str, Any]:
        seen.append(agent)
        backends.append(backend)
        return {}

    monkeypatch.setattr("wmlib.evaluation.evaluate", evaluated)
    monkeypatch.setattr(cli, "_in_words", lambda rows: "")
    monkeypatch.setenv("WMLIB_BF16", "1")  # restored afterwards
    argv = ["--test", "--ctrl_sample_z", "--no_amp", "--device", "cpu"]
    assert main(words(copy, *argv)) == 0
    assert (seen[1].sample_z, seen[1].device.type) == (True, "cpu")
    assert not has_bf16(seen[1].device)
    # A score is of Gymnasium's environment, unless another is asked for by its name.
    for evaluator, backend in (("ray", "gymnasium"), ("dream", "gymnasium"), ("auto", "auto"),
                               ("envpool", "envpool")):  # fmt: skip
        assert main(words(copy, "--test", "--ctrl_evaluator", evaluator)) == 0
        assert set(backends[-2:]) == {backend}
    assert set(backends[:2]) == {"gymnasium"}


def test_collecting_alone_leaves_rollouts_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(tmp_path, "--generate_only", "--num_rollouts", "3")) == 0
    names = [f"rollout_{i:06d}.npz" for i in range(3)]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == names
    assert not (tmp_path / "log").exists()
    assert str(tmp_path / "data") in capsys.readouterr().out


def test_a_single_stage_can_be_trained_again(copy: Path) -> None:
    best = copy / "log" / "ctrl" / "best.tar"
    before = contents(copy / "log" / "vae") | contents(copy / "log" / "mdrnn")
    shutil.rmtree(best.parent)
    (copy / "log" / "report.json").unlink()
    assert main(words(copy, "--stage", "ctrl")) == 0
    assert best.exists()
    assert contents(copy / "log" / "vae") | contents(copy / "log" / "mdrnn") == before
    assert not (copy / "log" / "report.json").exists()


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Run) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "collect", interrupt)
    argv = words(tmp_path / "with space")
    assert main(argv) == 130
    told = capsys.readouterr().out.partition("go on with: wmlib ")[2]
    assert shlex.split(told) == argv


# ---- what goes wrong is one sentence, and costs nothing ------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def noise(path: Path) -> None:
    path.write_bytes(b"<html>404</html>" * 50)


def foreign(path: Path) -> None:
    save_checkpoint(path, {"state_dict": {"weight": torch.zeros(3)}})


def delete(path: Path) -> None:
    path.unlink()


def nothing(path: Path) -> None: ...


MORE = ["--vae_epochs", "3", "--rnn_epochs", "3", "--ctrl_num_generations", "3"]
WRONG: list[tuple[str, Callable[[Path], None], str, list[str], str]] = [
    ("no_v", delete, "log/vae/best.tar", ["--stage", "rnn", *MORE], "run the stage .*'vae'"),
    ("no_m", delete, "log/mdrnn/best.tar", ["--stage", "ctrl"], "run the stage .*'rnn'"),
    ("no_c", delete, "log/ctrl/best.tar", ["--test"], "run the stage .*'ctrl'"),
    ("cut_v", cut, "log/vae/best.tar", ["--stage", "rnn", *MORE], "half-written or foreign"),
    ("cut_v_epoch", cut, "log/vae/checkpoint.tar", MORE, "half-written or foreign"),
    ("noise_m", noise, "log/mdrnn/best.tar", ["--stage", "ctrl", *MORE], "half-written or foreign"),
    ("foreign_v", foreign, "log/vae/best.tar", ["--stage", "rnn", *MORE], "holds no ConvVAE"),
    ("foreign_m", foreign, "log/mdrnn/best.tar", ["--test"], "holds no MDRNN"),
    ("foreign_c", foreign, "log/ctrl/best.tar", ["--test"], "holds no controller"),
    ("foreign_epoch", foreign, "log/vae/checkpoint.tar", MORE, "holds no .*optimizer"),
    ("cut_rollout", cut, "data/rollout_000001.npz", ["--stage", "vae", *MORE], "not a readable"),
    ("noise_rollout", noise, "data/rollout_000001.npz", ["--stage", "vae", *MORE], "not a reada"),
    ("cut_latents", cut, "data/latents/latents_32.npz", ["--stage", "rnn", *MORE], "latents_32"),
    ("noise_history", noise, "log/vae/history.json", [], "is not JSON"),
    ("noise_search", noise, "log/ctrl/search.json", ["--stage", "ctrl", *MORE], "is not JSON"),
    ("size", nothing, "log/vae/best.tar", ["--stage", "vae", "--latent_size", "16"], "32.*16"),
    ("settings", nothing, "log/ctrl/search.json", ["--ctrl_pop_size", "5"], "pop_size = 4, now 5"),
]


@pytest.mark.parametrize(
    ("damage", "file", "argv", "said"), [pytest.param(*row[1:], id=row[0]) for row in WRONG]
)
def test_files_that_do_not_serve_are_named_and_nothing_is_lost(
    copy: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    file: str,
    argv: list[str],
    said: str,
) -> None:
    damage(copy / file)
    before = contents(copy)
    assert main(words(copy, *argv)) == 1
    sentence = complaint(capsys)
    assert file in sentence
    assert re.search(said, sentence)
    assert contents(copy) == before


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--env", "Nowhere-v0"], "'Nowhere-v0' cannot be made"),
        (["--env", "nowhere:Nowhere-v0"], "'nowhere:Nowhere-v0' cannot be made"),
        (["--env", "CarRacing-v2"], "use CarRacing-v3"),
        (["--env", "CarRacing-v2", "--test"], "use CarRacing-v3"),
        (["--policy", "drunk"], "policy must be one of .*'drunk'"),
        (["--vae_learning_rate", "-1"], r"WMVAEConfig\.learning_rate must lie in .* -1"),
        (["--ctrl_pop_size", "1"], r"WMControllerConfig\.pop_size must lie in"),
        (["--device", "abacus"], "device must be .*'abacus'"),
        (["--latent_size", "0"], r"latent_size must lie in"),
        (["--seed", "-3"], r"seed must lie in .* -3"),
        (["--stage", "vae"], "no rollouts"),
    ],
)
def test_what_cannot_work_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert main(words(tmp_path, *argv)) == 1
    assert re.search(said, complaint(capsys))
    assert not contents(tmp_path)


@pytest.mark.parametrize("flag", ["--episodes", "--num_rollouts"])
def test_a_count_of_nothing_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    for count in ("0", "-2"):
        with pytest.raises(SystemExit, match="2"):
            main(words(tmp_path, flag, count))
        assert f"argument {flag}: {count} is not positive" in capsys.readouterr().err
    assert not contents(tmp_path)


@pytest.mark.parametrize("stage", ["vae", "rnn"])
def test_a_loss_that_is_no_number_is_said(
    copy: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    """And lost are neither the epochs before nor, with a lower rate, the time to come."""
    folder = copy / "log" / {"vae": "vae", "rnn": "mdrnn"}[stage]
    # The rate of a resumed training can only be lowered; so the one on disk is raised.
    state = load_checkpoint(folder / "checkpoint.tar")
    state["optimizer"]["param_groups"][0]["lr"] = 1e30
    state["config"]["learning_rate"] = 1e30
    save_checkpoint(folder / "checkpoint.tar", state)
    argv = ["--stage", stage, f"--{stage}_epochs", "3"]
    before = contents(folder)
    assert main(words(copy, *argv, f"--{stage}_learning_rate", "1e30")) == 1
    assert re.search("no longer a number in epoch 3.*lower the learning rate", complaint(capsys))
    assert contents(folder) == before
    assert main(words(copy, *argv)) == 0
    assert load_checkpoint(folder / "checkpoint.tar")["epoch"] == 3


@pytest.mark.fast
def test_a_process_that_dies_is_replaced(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its episodes are played again, and V and M of another game are refused."""
    shutil.rmtree(copy / "data")
    argv = ["--ctrl_max_workers", "2", "--num_rollouts", "4", "--generate_only"]
    assert main(words(copy, *argv, env=MORTAL)) == 0
    assert "a process of trial_envs:Mortal-v0 died or hung: replaced" in capsys.readouterr().out
    (copy / "log" / "ctrl" / "search.json").unlink()
    assert main(words(copy, "--stage", "ctrl", env=MORTAL)) == 1
    assert "was trained on Counting-v0, not on Mortal-v0" in complaint(capsys)


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence on stderr, progress bars aside."""
    lines = re.split(r"[\r\n]+", capsys.readouterr().err)
    said = [line for line in lines if line.startswith("wmlib: ")]
    assert len(said) == 1, lines
    assert not any("Traceback" in line or re.match(r"\w+Error:", line) for line in lines), lines
    return said[0]


# ---- killed and interrupted ----------------------------------------------------------------------


def start(argv: list[str]) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a terminal has it.

    A background job, such as a CI runner may be, hands an ignored Ctrl-C down to its children.
    """
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "wmlib", *argv], env=environment, start_new_session=True,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def gone(group: int) -> bool:
    """Whether no process of the group is left, soon."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def state(folder: Path) -> dict[str, Any]:
    """All that a run computes, in a form that can be compared exactly."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.tar")):
        saved = load_checkpoint(path)
        for key, value in saved["state_dict"].items():
            found[f"{path.relative_to(folder)} {key}"] = value.tolist()
        found[f"{path.relative_to(folder)} epoch"] = saved["epoch"]
    for path in sorted((folder / "data").rglob("[!.]*.npz")):
        with np.load(path) as archive:
            for key in archive.files:
                found[f"{path.name} {key}"] = archive[key].tolist()
    search = json.loads((folder / "log" / "ctrl" / "search.json").read_text())
    found["fitness"] = search["fitness"]
    report = json.loads((folder / "log" / "report.json").read_text())
    found["returns"] = [row["returns"] for row in report["rows"]]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("env", [COUNTING, "CarRacing-v3"])
def test_killed_in_every_stage_it_ends_where_a_straight_run_does(env: str, tmp_path: Path) -> None:
    def argv(folder: Path) -> list[str]:
        places = ["--data_dir", str(folder / "data"), "--logdir", str(folder / "log")]
        counted = ["--num_rollouts", "12"] if env == COUNTING else []  # in waves of two
        return ["--env", env, "--preset", "smoke", *places, *counted]

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    process = start(argv(straight))
    said = process.communicate()
    assert process.returncode == 0, said

    def epochs(stage: str) -> int:
        path = killed / "log" / stage / "history.json"
        return len(json.loads(path.read_text())["epochs"]) if path.exists() else 0

    def generations() -> int:
        path = killed / "log" / "ctrl" / "search.json"
        return len(json.loads(path.read_text())["rows"]) if path.exists() else 0

    stages: dict[str, Callable[[], int]] = {
        "collect": lambda: len(list((killed / "data").glob("*"))),
        "vae": lambda: epochs("vae"),
        "rnn": lambda: epochs("mdrnn"),
        "ctrl": generations,
    }
    for stage, progress in stages.items():
        process = start(argv(killed))
        wait_for(process, progress)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert gone(process.pid), f"{stage}: environment processes outlived their parent"
        if stage != "collect" or env == COUNTING:
            assert progress() < {"collect": 12}.get(stage, 2), f"{stage} was over already"
    process = start(argv(killed))
    said = process.communicate()
    assert process.returncode == 0, said
    wanted, found = state(straight), state(killed)
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == value, key


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["collect", "vae", "rnn", "ctrl"])
def test_ctrl_c_stops_cleanly_in_every_stage(copy: Path, stage: str) -> None:
    """Sent to every process of the group, as a terminal does."""
    argv = words(copy, "--ctrl_max_workers", "2")
    if stage == "collect":
        argv += ["--num_rollouts", "5000"]
        news = lambda: len(list((copy / "data").glob("*.npz"))) > 8  # noqa: E731
    else:
        flag = {"vae": "vae_epochs", "rnn": "rnn_epochs", "ctrl": "ctrl_num_generations"}[stage]
        argv += ["--stage", stage, f"--{flag}", "5000"]
        name = {"vae": "vae/history.json", "rnn": "mdrnn/history.json", "ctrl": "ctrl/search.json"}
        before = (copy / "log" / name[stage]).stat().st_mtime_ns
        news = lambda: (copy / "log" / name[stage]).stat().st_mtime_ns > before  # noqa: E731
    process = start(argv)
    wait_for(process, news)
    os.killpg(process.pid, signal.SIGINT)
    said, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: wmlib {shlex.join(argv)}" in said
    assert "Traceback" not in complaints
    assert gone(process.pid)


@pytest.mark.parametrize(("flags", "limit"), [([], 2100), (["--ctrl_time_limit", "50"], 50)])
def test_the_shipped_agent_is_tested_for_as_long_as_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], limit: int
) -> None:
    """Doom's own limit is the default, not an order."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(cli, "score", lambda *_, **options: asked.append(options) or {"rows": []})
    places = ["--logdir", str(tmp_path / "none"), "--data_dir", str(tmp_path)]
    monkeypatch.chdir(tmp_path)
    assert main(["--env", TAKE_COVER, "--test", *places[2:], *flags]) == 0
    assert [options["time_limit"] for options in asked] == [limit]


def test_too_little_room_for_v_is_said_before_v_learns(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    shutil.rmtree(copy / "log")
    assert main(words(copy, "--num_rollouts", "100", "--stage", "vae")) == 1
    assert re.search(r"log/vae needs 121\.8 MB, and its disk has 1\.0 MB left", complaint(capsys))
    assert not list((copy / "log").rglob("*.tar"))
    assert main(words(copy, "--num_rollouts", "100", "--generate_only")) == 0
    assert "data may need 6.9 MB, and its disk has 1.0 MB left" in capsys.readouterr().out


def test_a_trained_folder_remembers_its_game(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named, or stood in; of one episode no spread is printed."""
    few = ["--test", "--preset", "smoke", "--episodes", "1", "--ctrl_max_workers", "1"]
    assert main([*few, "--logdir", str(copy / "log")]) == 0
    said = capsys.readouterr().out
    assert "over 1 fresh episodes of counting_env:Counting-v0" in said
    assert "± 0" not in said
    monkeypatch.chdir(copy / "log")
    assert main(few) == 0
    assert "testing the agent in .\n" in capsys.readouterr().out


def test_a_presets_windows_are_cut_to_short_games(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PRESETS["smoke"]["rnn"], "seq_len", 64)
    assert main(words(tmp_path)) == 0
    said = re.search(
        r"have 64 steps, the longest .* has (\d+): they are cut to (\d+)", capsys.readouterr().out
    )
    assert said
    assert int(said[2]) <= int(said[1])
    state = load_checkpoint(tmp_path / "log" / "mdrnn" / "best.tar")
    assert state["config"]["seq_len"] == int(said[2])
    assert main(words(tmp_path, "--rnn_seq_len", "64")) == 1
    assert re.search(r"add --rnn_seq_len \d+$", complaint(capsys))
