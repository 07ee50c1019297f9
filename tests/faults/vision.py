"""Does V see? Its error beside the mean frame's, on five pale or dark games and on CarRacing.

Each game's V is trained twice on the same few episodes: as wmlib does it, and without the two
things that keep the decoder's sigmoid from saturating (the warm-up of the rate, and a last bias at
the data's mean). Run from the repository's root: ``python tests/faults/vision.py``.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import wmlib.training
from wmlib import ConvVAE, WMVAEConfig, diagnose_vae, generate_rollouts, load_vae, train_convae
from wmlib.checkpoints import read_json, write_json
from wmlib.datasets import split_point
from wmlib.rollouts import read_rollout

GAMES = ["CartPole-v1", "Pendulum-v1", "LunarLander-v3", "Acrobot-v1", "MountainCar-v0"]
GAMES += ["CarRacing-v3"]
EPISODES, LENGTH = 16, 150
STEPS, BATCH = 350, 32
PIXELS = 64 * 64 * 3
REPORT = Path(__file__).with_name("vision.json")


def levels(error: float) -> float:
    """The root mean square error in levels of 255, from the squared error of a frame."""
    return round(255 * (error / PIXELS) ** 0.5, 1)


def compare(game: str, folder: Path) -> dict[str, Any]:
    """One row of the table."""
    policy = "brownian" if game.startswith("CarRacing") else "random"
    files = generate_rollouts(folder / "data", game, EPISODES, LENGTH, 4, 0, policy, display=False)
    episodes = [read_rollout(file).observations for file in files]
    cut = split_point(len(files))
    seen, held_out = np.concatenate(episodes[:cut]), np.concatenate(episodes[cut:])
    mean = (seen / np.float32(255)).mean(axis=0)
    naive = float(np.square(held_out / np.float32(255) - mean).sum((1, 2, 3)).mean())
    row: dict[str, Any] = {"env_id": game, "frames": len(seen), "mean_frame": levels(naive)}
    warm_up = wmlib.training.WARM_UP
    for name in ("plain", "wmlib"):
        config = WMVAEConfig(
            64, 64, data_dir=str(folder / "data"), logdir=str(folder / name), nosamples=True,
            num_epochs=round(STEPS / -(-len(seen) // BATCH)), train_batch_size=BATCH,
        )  # fmt: skip
        wmlib.training.WARM_UP = warm_up if name == "wmlib" else 0
        train_convae(config, None if name == "wmlib" else ConvVAE(3, 32), display=False)
        row[name] = levels(diagnose_vae(load_vae(config), held_out)["error"])
    wmlib.training.WARM_UP = warm_up
    return row


def main() -> None:
    """Measure the games named, or all; the report keeps the rows of the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("games", nargs="*", default=GAMES)
    games = parser.parse_args().games
    before = read_json(REPORT, "rows")["rows"] if REPORT.exists() else []
    rows = {row["env_id"]: row for row in before}
    for game in games:
        with tempfile.TemporaryDirectory() as folder:
            rows[game] = compare(game, Path(folder))
        print(rows[game], flush=True)
        about: dict[str, Any] = {"unit": "RMSE in levels of 255, held-out frames"}
        about |= {"episodes": EPISODES, "steps": STEPS, "batch": BATCH}
        write_json(REPORT, about | {"rows": [rows[name] for name in GAMES if name in rows]})


if __name__ == "__main__":
    main()
