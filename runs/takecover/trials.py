"""Which training of V draws fireballs soonest? Short trainings that cost the same CPU time.

``python runs/takecover/trials.py`` plays some games blindly, trains the V that ships on in each of
the ways in ``TRIALS`` for ``--minutes`` of CPU time, and looks at games that none of them saw: at
whole frames, and at the pixels that are a fireball's, as the game itself labels them. A row each
goes to ``runs/takecover/trials.csv``; what is there already is not done again.

They begin with the V that ships because a V of a few minutes has not spent the nats that it has for
nothing: what the KL term costs does not show in it.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from train import ENV, LIMIT, Blind

from wmlib.checkpoints import atomic_path
from wmlib.collect import generate_rollouts
from wmlib.devices import autocast, quicken
from wmlib.envs import episode_seed, make_env
from wmlib.latents import encode
from wmlib.pixels import frames_to_tensor, resize
from wmlib.rollouts import read_rollout
from wmlib.vae import ConvVAE, conv_vae_loss_fn, kl_divergence
from wmlib.world import load_pretrained

DATA, TABLE = Path("data/takecover-trials"), Path(__file__).with_name("trials.csv")
GAMES, LABELLED = 120, 30  # to learn from; to look at, every third frame
FAR = 12  # pixels of a frame; a ball of fewer is far away
COLUMNS = 8  # of a frame, in which a linear readout of z looks for balls
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trial:
    """One way to train V on; by default that of the V that ships, at a third of its first rate.

    Attributes:
        batch, rate: Frames in a batch; Adam's first learning rate, which falls along a cosine.
        beta, tolerance: See ``conv_vae_loss_fn``.
        share: Of a batch, how many frames are drawn among the fourth that changes most.
        weight: What the squared error of a pixel counts that has changed since the frame before.
            Anything but 1 is no longer the paper's V.
    """

    name: str
    batch: int = 100
    rate: float = 3e-4
    beta: float = 1.0
    tolerance: float = 0.5
    share: float = 0.25
    weight: float = 1.0


TRIALS = [
    Trial("no further", rate=0.0),
    Trial("as it was"),
    Trial("beta 0.1", beta=0.1),
    Trial("batches of 32", batch=32),
    Trial("half of the frames change", share=0.5),
    Trial("rate 1e-3", rate=1e-3),
    Trial("beta 0.1, batches of 32, rate 1e-3", beta=0.1, batch=32, rate=1e-3),
    Trial("one nat free per latent", tolerance=1.0),
    Trial("changed pixels count 5", weight=5.0),
    Trial("beta 0.3", beta=0.3),
]


# ------------------------------------------------------------------------------ games


def frames() -> np.ndarray:
    """Frames (N, 64, 64, 3) of blind random play, game after game."""
    player = Blind("long-held")
    files = generate_rollouts(DATA / "games", ENV, GAMES, LIMIT, 1, 2030, player, "gymnasium")
    return np.concatenate([read_rollout(file).observations for file in files])


def changes(seen: np.ndarray) -> np.ndarray:
    """How far each frame is from the one before, in levels summed over all its numbers: (N,)."""
    before = np.concatenate([seen[:1], seen[:-1]])
    parts = zip(np.array_split(seen, 200), np.array_split(before, 200), strict=True)
    return np.concatenate([difference(now, then).sum((1, 2, 3)) for now, then in parts])


def difference(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    """|now - then| of frames in bytes, without their wrapping round; of the same shape."""
    shape = now.shape
    return cv2.absdiff(now.reshape(len(now), -1), then.reshape(len(now), -1)).reshape(shape)


def labelled() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames (N, 64, 64, 3), what is fire in them (N, 64, 64), and of which game each is (N,).

    A pixel is 1 where it is mostly a fireball's of fewer than ``FAR`` pixels, 2 of a larger one's.
    """
    path = DATA / "labelled.npz"
    if not path.exists():
        env = make_env(ENV, labels_buffer_enabled=True)
        player = Blind("long-held")
        parts = [watch(env, player, episode_seed("select", 7, i)) for i in range(LABELLED)]
        env.close()
        games = np.repeat(np.arange(LABELLED), [len(seen) for seen, _ in parts])
        seen, fire = (np.concatenate(part) for part in zip(*parts, strict=True))
        with atomic_path(path) as temporary:
            np.savez(temporary, seen=seen, fire=fire, games=games)
    with np.load(path) as arrays:
        return arrays["seen"][::3], arrays["fire"][::3], arrays["games"][::3]


def watch(env: Any, player: Any, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One game: frames (T, 64, 64, 3) and what is fire in them (T, 64, 64)."""
    frame, _ = env.reset(seed=seed)
    player.start([seed])
    seen, fire, ended = [], [], False
    while not ended:
        seen.append(resize(frame, (64, 64)))
        fire.append(balls(env.unwrapped.state, len(frame)))
        (action,) = player.act(seen[-1][None], np.zeros(1, int))
        frame, _, terminated, truncated, _ = env.step(action)
        ended = terminated or truncated
    return np.stack(seen), np.stack(fire)


def balls(state: Any, rows: int) -> np.ndarray:
    """What is fire in a frame (64, 64), from the game's own labels of its upper ``rows``."""
    found = np.zeros((64, 64), np.uint8)
    for label in state.labels:
        if label.object_name == "DoomImpBall":
            own = (state.labels_buffer[:rows] == label.value).astype(np.float32)
            share = cv2.resize(own, (64, 64), interpolation=cv2.INTER_AREA)
            found[share >= 0.5] = 1 if share.sum() < FAR else 2
    return found


# ------------------------------------------------------------------------------ training


def batches(trial: Trial, change: np.ndarray, seed: int = 1) -> Iterator[np.ndarray]:
    """Numbers of frames, a batch at a time, for ever."""
    rng = np.random.default_rng(seed)
    order = change.argsort()
    calm, lively = np.array_split(order, [len(order) * 3 // 4])
    many = round(trial.share * trial.batch)
    while True:
        yield np.concatenate([rng.choice(lively, many), rng.choice(calm, trial.batch - many)])


def loss_of(trial: Trial, vae: ConvVAE, x: Tensor, before: Tensor) -> Tensor:
    """The loss per frame, of frames and the ones before them, each (B, 3, 64, 64)."""
    with autocast(CPU):
        recon, mu, logsigma = (part.float() for part in vae(x))
    loss = conv_vae_loss_fn(recon, x, mu, logsigma, trial.beta, trial.tolerance)
    if trial.weight != 1:
        moved = (x - before).abs().amax(1, keepdim=True) > 0.1
        loss = loss + (trial.weight - 1) * ((recon - x).square() * moved).sum()
    return loss / len(x)


def train(
    trial: Trial, seen: np.ndarray, change: np.ndarray, seconds: float
) -> tuple[ConvVAE, int]:
    """V after so many seconds of CPU time, and how many steps they were."""
    torch.manual_seed(1)
    vae = quicken(load_pretrained("takecover").vae.train())
    if not trial.rate:
        return vae.eval(), 0
    optimizer = torch.optim.Adam(vae.parameters(), lr=trial.rate, fused=True)
    began, steps = time.process_time(), 0
    for index in batches(trial, change):
        spent = (time.process_time() - began) / seconds
        if spent >= 1:
            break
        rate = 0.5 * (1 + math.cos(math.pi * spent)) * min(1.0, (steps + 1) / 20)
        optimizer.param_groups[0]["lr"] = trial.rate * rate
        x, before = (frames_to_tensor(torch.from_numpy(seen[i])) for i in (index, index - 1))
        loss = loss_of(trial, vae, x, before)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        steps += 1
    return vae.eval(), steps


# ------------------------------------------------------------------------------ looking


@torch.inference_mode()
def look(vae: ConvVAE, seen: np.ndarray, fire: np.ndarray, games: np.ndarray) -> dict[str, float]:
    """What V makes of labelled frames.

    Returns:
        ``error``: squared error per frame, summed over pixels; ``far`` and ``near``: of fireballs'
        pixels, what share of the squared error that the mean frame makes there is left;
        ``where``: the share of variance (R²) of the fireballs' pixels in each of 8 columns that a
        linear readout of z explains in games that it was not fitted on; ``kl``: nats per frame.
    """
    mu, logsigma = encode(vae, seen, CPU)
    mean = seen.mean(0) / 255
    errors, ours, naive = [], {1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}
    for part, z, burning in zip(
        np.array_split(seen, 100), mu.tensor_split(100), np.array_split(fire, 100), strict=True
    ):
        x = part / np.float32(255)
        missed = np.square(vae.decoder(z).permute(0, 2, 3, 1).numpy() - x).sum(-1)  # (n, 64, 64)
        blind = np.square(mean - x).sum(-1)
        errors.append(missed.sum((1, 2)))
        for size in ours:
            ours[size] += float(missed[burning == size].sum())
            naive[size] += float(blind[burning == size].sum())
    return {
        "error": float(np.concatenate(errors).mean()),
        "far": ours[1] / naive[1],
        "near": ours[2] / naive[2],
        "where": readout(mu.numpy(), fire, games),
        "kl": float(kl_divergence(mu, logsigma).sum(-1).mean()),
    }


def readout(mu: np.ndarray, fire: np.ndarray, games: np.ndarray) -> float:
    """R² of a linear map from z to the root of how many pixels burn in each column of a frame."""
    columns = (fire > 0).reshape(len(fire), 64, COLUMNS, -1).sum((1, 3)) ** 0.5  # (N, 8)
    inputs = np.concatenate([mu, np.ones((len(mu), 1), np.float32)], axis=1)
    fitted = games < games.max() // 2
    x, y = inputs[fitted], columns[fitted]
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    rest = columns[~fitted]
    left = np.square(rest - inputs[~fitted] @ weights).sum()
    return float(1 - left / np.square(rest - y.mean(0)).sum())


# ------------------------------------------------------------------------------ the table


def recorded() -> list[dict[str, Any]]:
    """The table's rows so far."""
    if not TABLE.exists():
        return []
    with TABLE.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Every trial that is not in the table yet."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="of CPU time for each")
    parser.add_argument("--only", nargs="*", help="names of trials; all by default")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seen, (shown, fire, games) = frames(), labelled()
    change = changes(seen)
    done = {(row["name"], float(row["minutes"])) for row in recorded()}
    for trial in TRIALS:
        if (trial.name, args.minutes) in done or trial.name not in (args.only or [trial.name]):
            continue
        vae, steps = train(trial, seen, change, 60 * args.minutes)
        row: dict[str, Any] = dataclasses.asdict(trial) | {"minutes": args.minutes, "steps": steps}
        row |= {key: round(value, 4) for key, value in look(vae, shown, fire, games).items()}
        rows = [*recorded(), row]  # read again: a second process may share the work
        with atomic_path(TABLE) as path, path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(row), lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        print(row, flush=True)


if __name__ == "__main__":
    main()
