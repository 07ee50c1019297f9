"""A whole training in a fraction of a second, in a process that may be killed.

The stages, the files and the resuming are wmlib's own; only the models are tiny, and the game
counts. Every piece of work runs in a forked child, so that a crash is an outcome like any other.
"""

import os
import pickle
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import cma  # noqa: E402, F401  # here, so that no child imports it again

from wmlib import (  # noqa: E402  # the repository is no installed package here
    MDRNN,
    Agent,
    Controller,
    WMControllerConfig,
    WMMDNRNNConfig,
    WMVAEConfig,
    evaluate,
    generate_rollouts,
    make_env,
    train_controller,
    train_convae,
    train_mdn_rnn,
)
from wmlib.checkpoints import (  # noqa: E402
    load_checkpoint,
    load_weights,
    locked,
    read_json,
    write_json,
)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would ignore it
torch.set_num_threads(1)
torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # likewise: it brings half of torch

ENV = "counting_env:Counting-v0"
EPISODES, EPOCHS, GENERATIONS = 4, 3, 3
LATENTS, HIDDENS = 4, 8


class TinyVAE(nn.Module):
    """A linear V on pictures of 4 × 4."""

    latent_size = LATENTS

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Linear(48, 2 * LATENTS)
        self.drawing = nn.Linear(LATENTS, 48)

    def encoder(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logsigma = self.heads(F.avg_pool2d(x, 16).flatten(1)).chunk(2, -1)
        return mu, logsigma

    def decoder(self, z: Tensor) -> Tensor:
        small = self.drawing(z).sigmoid().unflatten(-1, (3, 4, 4))
        return F.interpolate(small, scale_factor=16)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logsigma = self.encoder(x)
        return self.decoder(mu + logsigma.exp() * torch.randn_like(mu)), mu, logsigma


@dataclass
class Settings:
    """What a case may want otherwise."""

    seed: int = 3
    env: str = ENV
    batch: int = 16
    epochs: int = EPOCHS
    generations: int = GENERATIONS
    samples: int = 1
    sigma0: float = 0.1
    time_limit: int = 20


def vae_config(folder: Path, s: Settings) -> WMVAEConfig:
    return WMVAEConfig(
        64, 64, LATENTS, "cpu", s.batch, s.epochs, str(folder / "data"), logdir=str(folder),
        seed=s.seed, sample_interval=1,
    )  # fmt: skip


def rnn_config(folder: Path, s: Settings) -> WMMDNRNNConfig:
    return WMMDNRNNConfig(
        LATENTS, 2, HIDDENS, 2, "cpu", s.batch, 4, s.epochs, str(folder / "data"),
        logdir=str(folder), seed=s.seed,
    )  # fmt: skip


def collect(folder: Path, s: Settings) -> None:
    generate_rollouts(
        folder / "data", s.env, EPISODES, 20, 1, s.seed, backend="gymnasium", display=False
    )


def train_v(folder: Path, s: Settings) -> None:
    def draw(_: nn.Module, epoch: int) -> None:
        write_json(folder / "vae" / "samples" / f"epoch_{epoch}.json", {"epoch": epoch})

    torch.manual_seed(s.seed)
    train_convae(vae_config(folder, s), TinyVAE(), None, draw, display=False)


def vision(folder: Path) -> TinyVAE:
    path, vae = folder / "vae" / "best.tar", TinyVAE()
    load_weights(vae, load_checkpoint(path)["state_dict"], str(path))
    return vae


def train_m(folder: Path, s: Settings) -> None:
    configs = vae_config(folder, s), rnn_config(folder, s)
    train_mdn_rnn(*configs, vision(folder), display=False)


def agent(folder: Path, s: Settings) -> Agent:
    path, mdrnn = folder / "mdrnn" / "best.tar", MDRNN(LATENTS, 2, HIDDENS, 2)
    load_weights(mdrnn, load_checkpoint(path)["state_dict"], str(path))
    controller = Controller(LATENTS, HIDDENS, 2)
    for parameter in controller.parameters():
        nn.init.zeros_(parameter)
    space = make_env(s.env).action_space
    return Agent(vision(folder), mdrnn.to_cell(), controller, space, "cpu")


def train_c(folder: Path, s: Settings) -> None:
    config = WMControllerConfig(
        LATENTS, HIDDENS, 2, s.env, str(folder), n_samples=s.samples, pop_size=3, max_workers=1,
        display=False, time_limit=s.time_limit, num_generations=s.generations, sigma0=s.sigma0,
        evaluator="gymnasium", seed=s.seed,
    )  # fmt: skip
    train_controller(config, agent(folder, s))


def report(folder: Path, s: Settings) -> None:
    driver, path = agent(folder, s), folder / "ctrl" / "best.tar"
    load_weights(driver.controller, load_checkpoint(path)["state_dict"], str(path))
    row = evaluate(driver, s.env, 2, time_limit=20, max_workers=1)
    write_json(folder / "report.json", {"rows": [row]})


STAGES = (collect, train_v, train_m, train_c, report)


def train(folder: Path, settings: Settings | None = None) -> None:
    """All stages, from wherever the folder is, under the lock that the command line takes."""
    with locked(folder):
        go_on(folder, settings)


def go_on(folder: Path, settings: Settings | None = None) -> None:
    """The same, for whoever holds the lock already."""
    for stage in STAGES:
        stage(folder, settings or Settings())


def plain(value: Any) -> Any:
    """A value to be compared by ``==``, without what may differ: seconds."""
    if isinstance(value, Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items() if key not in FREE}
    return [plain(part) for part in value] if isinstance(value, (list, tuple)) else value


FREE = {"seconds", "data_dir", "logdir", "hardware"}


def contents(folder: Path) -> dict[str, Any]:
    """What a folder holds: file by file, comparable."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".tar":
            found[name] = plain(load_checkpoint(path))
        elif path.suffix == ".json":
            found[name] = plain(read_json(path))
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                found[name] = {key: archive[key].tobytes() for key in archive.files}
    return found


@dataclass
class Outcome:
    """How a child ended: ``"done"``, ``"error"`` (one sentence) or ``"crash"``."""

    kind: str
    text: str = ""
    value: Any = None


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing is printed below this, by whatever."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    yield


EXPECTED = (ValueError, OSError, RuntimeError, FloatingPointError)  # what the command line says


def start(work: Callable[[], Any]) -> tuple[int, int]:
    """Begin ``work`` in a forked child: its process id, and the pipe that its outcome comes by."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    with _quiet():
        try:
            outcome = Outcome("done", value=work())
        except EXPECTED as error:
            outcome = Outcome("error", str(error))
        except BaseException:
            outcome = Outcome("crash", traceback.format_exc())
        try:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(outcome, pipe)
        finally:  # never on into the campaign, not even if nobody listens any more
            os._exit(0)


def finish(child: int, pipe: int) -> Outcome:
    """The outcome of a child."""
    with os.fdopen(pipe, "rb") as file:
        data = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return Outcome("killed", signal.Signals(os.WTERMSIG(status)).name)
    return pickle.loads(data) if data else Outcome("crash", "no outcome")


def within(work: Callable[[], Any]) -> Outcome:
    """``work`` in a child, to its end."""
    return finish(*start(work))


class Bench:
    """A finished training to damage copies of, and a folder for them."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.home = Path(tempfile.mkdtemp(prefix="wmlib-faults-"))
        self.straight = self.home / "straight"
        outcome = within(lambda: train(self.straight))
        assert outcome.kind == "done", outcome.text
        self.wanted = contents(self.straight)
        self.count = 0
        self.said: dict[str, str] = {}  # errors of the command line, as a user reads them

    def fresh(self, stage: str = "") -> Path:
        """A folder of its own: empty, or a copy of a training that was killed in this stage."""
        self.count += 1
        folder = self.home / f"case_{self.count}"
        if stage:
            shutil.copytree(self.stopped(stage), folder)
        return folder

    def stopped(self, stage: str) -> Path:
        """A training killed after the second epoch or generation of a stage; ``all``: finished."""
        folder = self.home / f"stopped_{stage}"
        last = {
            "vae": "vae/history.json",
            "mdrnn": "mdrnn/history.json",
            "ctrl": "ctrl/search.json",
        }

        def work() -> None:
            left, replace = 2, Path.replace

            def renamed(self: Path, target: Path) -> Path:
                nonlocal left
                path = replace(self, target)
                left -= Path(target) == folder / last[stage]
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return path

            Path.replace = renamed  # type: ignore[method-assign, assignment]
            train(folder)

        if stage == "all":
            return self.straight
        if not folder.exists():
            assert within(work).kind == "killed"
        return folder

    def close(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
