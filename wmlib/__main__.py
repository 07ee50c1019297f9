"""The command line."""

import os
import signal
import sys

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # Ctrl-C while torch loads

import argparse
import contextlib
import dataclasses
import json
import shlex
import tempfile
import threading
from pathlib import Path
from typing import Any

from wmlib.checkpoints import locked, read_json, reading, write_json
from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig
from wmlib.envs import TIME_LIMIT, make_env, trusted
from wmlib.evaluation import score, test_trained_model
from wmlib.pipeline import PRESETS, Run
from wmlib.world import SHIPPED, SHIPPED_FOR, load_pretrained, load_trained

STAGES = {"vae": WMVAEConfig, "rnn": WMMDNRNNConfig, "ctrl": WMControllerConfig}
# Set by flags without a stage, or by the environment.
SHARED = {"height", "width", "latent_size", "hidden_size", "action_size", "data_dir", "logdir"}
SHARED |= {"env_name", "env_kwargs", "device", "seed", "extra"}


def positive(text: str) -> int:
    """Reads a whole number above zero."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def _object(text: str) -> dict[str, Any]:
    """Reads a JSON object."""
    try:
        return {**json.loads(text)}
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object ({error})") from error


def _parser() -> argparse.ArgumentParser:
    about = "Train and test the world model of Ha & Schmidhuber (2018): V, M and C."
    parser = argparse.ArgumentParser(prog="wmlib", allow_abbrev=False, description=about)
    add = parser.add_argument
    add("--env", help="Gymnasium id, or module:Id (default: CarRacing-v3, or the tested folder's)")
    add("--env_kwargs", type=_object, default={}, help="JSON, as in '{\"continuous\": false}'")
    add("--preset", choices=sorted(PRESETS), default="none", help="a whole set of settings")
    add("--stage", choices=("all", *STAGES), default="all", help="which stage to train")
    add("--generate_only", action="store_true", help="collect rollouts, then stop")
    add("--test", action="store_true", help="score trained weights; the shipped ones by default")
    add("--data_dir", help="rollouts (default: data/<env>)")
    add("--logdir", help="checkpoints and logs (default: results/<env>)")
    add("--num_rollouts", type=positive, help="rollouts of the first collection")
    add("--policy", help="policy of the first collection: random, brownian or held")
    add("--latent_size", type=int, help="length of z")
    add("--rnn_hidden", type=int, help="LSTM units")
    add("--vae_epochs", type=int, dest="vae_num_epochs", help="training epochs of V")
    add("--rnn_epochs", type=int, dest="rnn_num_epochs", help="training epochs of M")
    add("--device", help="cuda (the CPU where there is none), cuda:N or cpu")
    add("--seed", type=int, default=0, help="seed of everything")
    add("--episodes", type=positive, help="fresh episodes of the final score")
    add("--report", metavar="FILE", help="JSON report (default: <logdir>/report.json)")
    add("--no_precompute_latents", action="store_true", help="encode each batch again")
    add("--no_amp", action="store_true", help="float32 everywhere")
    for stage, config in STAGES.items():
        group = parser.add_argument_group(f"stage {stage}")
        for knob in dataclasses.fields(config):
            if knob.name in SHARED:
                continue
            kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
            if knob.type != "bool":
                kind = {"type": {"int": int, "float": float, "str": str}[str(knob.type)]}
            about = f"{knob.metadata['about']} (default: {knob.default})"
            if knob.name == "num_epochs":
                about = argparse.SUPPRESS  # --vae_epochs and --rnn_epochs say it
            group.add_argument(f"--{stage}_{knob.name}", default=None, help=about, **kind)
    return parser


def _settings(args: argparse.Namespace, preset: dict[str, Any]) -> dict[str, Any]:
    """The preset's fields of each stage, overruled by the flags given."""
    flags = vars(args) | {"vae_device": args.device, "rnn_device": args.device}
    flags |= {"vae_latent_size": args.latent_size, "rnn_hidden_size": args.rnn_hidden}
    settings = {}
    for stage, config in STAGES.items():
        given = {f.name: flags.get(f"{stage}_{f.name}") for f in dataclasses.fields(config)}
        settings[stage] = preset[stage] | {k: v for k, v in given.items() if v is not None}
    return settings


def _run(args: argparse.Namespace) -> Run:
    """The training that the flags describe."""
    preset = PRESETS[args.preset]
    first, *others = preset["rollouts"]
    given = {"num_rollouts": args.num_rollouts, "policy": args.policy}
    first = first | {key: value for key, value in given.items() if value is not None}
    settings = _settings(args, preset) | {"env_kwargs": args.env_kwargs, "seed": args.seed}
    settings["precompute"] = not args.no_precompute_latents
    return Run(args.env, args.data_dir, args.logdir, [first, *others], **settings)


def _train(args: argparse.Namespace) -> None:
    run = _run(args)
    if args.stage == "all" or args.generate_only:
        run.collect()
    if args.generate_only:
        print(f"rollouts are in {run.data_dir}")
        return
    if args.stage in ("all", "rnn"):
        run.check_windows(asked_for=args.rnn_seq_len is not None)
    for stage in STAGES:
        if args.stage in ("all", stage):
            print(f"stage {stage} → {run.logdir}")
            getattr(run, f"train_{stage}")()


def _test(args: argparse.Namespace, logdir: str | None) -> None:
    make_env(args.env, **args.env_kwargs).close()  # a wrong name is said before missing weights
    preset = PRESETS[args.preset]
    ctrl = {"display": True} | _settings(args, preset)["ctrl"]
    options = {key: ctrl[key] for key in ("time_limit", "display", "max_workers") if key in ctrl}
    options |= {"env_name": args.env, "env_kwargs": args.env_kwargs, "seed": args.seed}
    options["episodes"] = args.episodes or preset["episodes"]
    asked = ctrl.get("evaluator")
    options["backend"] = asked if asked in ("envpool", "auto") else "gymnasium"
    acting = {"device": args.device or "cuda", "sample_z": ctrl.get("sample_z", False)}
    if logdir is None and (Path(args.logdir) / "ctrl" / "best.tar").exists():
        logdir = args.logdir  # one's own comes first
    if logdir is None:
        world = load_pretrained(SHIPPED_FOR.get(args.env, SHIPPED))
        if args.env != world.env_name:
            raise ValueError(
                f"{args.logdir} holds no agent trained on {args.env}, and the shipped one drives "
                f"{world.env_name}: train one, or name its folder with --logdir"
            )
        options = {"time_limit": world.info.get("time_limit", TIME_LIMIT)} | options
        print(f"testing the agent that ships with wmlib: {args.logdir} holds none")
        agents: dict[str, Any] = {"V + M, the shipped agent": world.agent(**acting)}
        print(_in_words(score(agents, args.report, **options)["rows"]))
        return
    path = args.report or f"{logdir}/report.json"
    print(f"testing the agent in {logdir}")
    report = test_trained_model(logdir, acting=acting, **options)
    histories = [Path(logdir) / stage / "history.json" for stage in ("vae", "mdrnn")]
    told = [read_json(history).get("verdict", "") for history in histories if history.exists()]
    text = _in_words(report["rows"])
    report["verdicts"] = [*filter(None, told), *text.splitlines()[2:]]
    with locked(logdir):
        write_json(path, report)
    print(f"report: {path}", *filter(None, told), text, sep="\n")


def _in_words(rows: list[dict[str, Any]]) -> str:
    """What was reached, in plain words."""
    text = [
        f"{row['agent']}: {row['mean']:.0f}"
        + ("" if row["std"] is None else f" ± {row['std']:.0f}")
        + f" over {row['episodes']} fresh episodes of {row['env_id']} ({row['backend']}), "
        + ("noise unknown" if row["std"] is None else f"mean within ± {row['ci95']:.0f}")
        for row in rows
    ]
    if len(rows) == 2 and rows[0]["std"] is not None:
        gain = rows[1]["mean"] - rows[0]["mean"]
        noise = (rows[0]["ci95"] ** 2 + rows[1]["ci95"] ** 2) ** 0.5
        verdict = "clearly better than" if gain > noise else "not clearly better than"
        text.append(f"The agent is {verdict} random play: {gain:+.0f} points.")
    return "\n".join(text)


def _stop(number: int, frame: Any) -> None:
    """SIGTERM and SIGHUP end a run as Ctrl-C does; what Python calls in a fork swallows it."""
    if not (frame and frame.f_back and frame.f_back.f_code.co_name == "_launch"):
        raise KeyboardInterrupt(number)
    threading.Timer(0.1, os.kill, (os.getpid(), number)).start()


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    words = sys.argv[1:] if argv is None else argv
    try:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:
                signal.signal(getattr(signal, name), _stop)
        _work(_parser().parse_args(words))
    except KeyboardInterrupt as stop:
        print(f"\nStopped. Nothing finished is lost; go on with: wmlib {shlex.join(words)}")
        return 128 + int(stop.args[0] if stop.args else signal.SIGINT)
    except (ValueError, OSError, RuntimeError, FloatingPointError) as error:
        print(f"wmlib: {error}", file=sys.stderr)
        return 1
    return 0


def _work(args: argparse.Namespace) -> None:
    """Train, test, or both."""
    inside = "." if Path("ctrl", "best.tar").exists() else None
    if args.test and not args.env and (logdir := args.logdir or inside):
        args.logdir, args.env = logdir, trusted(load_trained(logdir).env_name, logdir)
    args.env = args.env or "CarRacing-v3"
    folder = args.env.replace(":", "_").replace("/", "_").lower()
    args.data_dir = args.data_dir or f"data/{folder}"
    if args.no_amp:
        os.environ["WMLIB_BF16"] = "0"
    logdir = args.logdir
    args.logdir = logdir or f"results/{folder}"
    if args.report:
        with reading(f"--report {args.report}", "cannot be written", "name another file"):
            report = Path(args.report)
            if report.exists() and not report.is_file():
                raise ValueError("it is no ordinary file")
            report.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=report.parent).close()
    if not args.test:
        with contextlib.nullcontext() if args.generate_only else locked(args.logdir):
            _train(args)
    if args.test or (args.stage == "all" and not args.generate_only):
        _test(args, logdir if args.test else args.logdir)


if __name__ == "__main__":
    sys.exit(main())
