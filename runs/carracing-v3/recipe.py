"""Every size of the run, and what it takes."""

from __future__ import annotations

from typing import Any

from wmlib.envs import TIME_LIMIT

# Every size of the run. Beside it what it takes on two quiet cores, at these measured speeds: V
# learns 800 frames a second, M 80,000 steps; the whole agent drives 1,250 steps a second in EnvPool
# and 350 in Gymnasium.
FULL: dict[str, Any] = {
    "time_limit": TIME_LIMIT,
    "play": {"episodes": 240, "seq_len": 500},  # 80 k steps in EnvPool, 40 k in Gymnasium: 3 min
    "round1": {
        "vae": {"train_batch_size": 100, "num_epochs": 12, "epoch_size": 20_000},  # 6 min
        "rnn": {"batch_size": 64, "seq_len": 64, "num_epochs": 100, "scheduler_patience": 10},  # 3
        # 0.7 M steps: 10 min. Two tracks and little patience: what stays on the road is better.
        "ctrl": {"pop_size": 16, "n_samples": 2, "num_generations": 40, "patience": 60},
    },
    "drives": 320,  # 190 k steps in EnvPool, 95 k in Gymnasium: 8 min
    "round2": {
        # 2.2 M frames, and 30 times those held out: 53 min. A β of 1 spends ten nats on a frame,
        # and loses kerbs and hairpins; 0.1 spends twice as many.
        "vae": {"train_batch_size": 100, "num_epochs": 30, "epoch_size": 75_000, "beta": 0.1},
        "rnn": {"batch_size": 64, "seq_len": 128, "num_epochs": 80, "scheduler_patience": 10},  # 8
    },
    # 30 × 135 k steps: 54 min, and 3 for imitation and axes before it.
    "envpool": {
        "pop_size": 40, "n_samples": 2, "num_generations": 30, "patience": 60, "sigma0": 0.25,
    },
    # 10 × 100 k steps in Gymnasium: 49 min, and 2 before it.
    "gymnasium": {
        "pop_size": 20, "n_samples": 3, "num_generations": 10, "patience": 60, "sigma0": 0.12,
        "sample_z": True, "evaluator": "gymnasium",
    },
    # 18 and then 3 candidates, 550 laps in Gymnasium: 24 min. What is lost late is lost by speed.
    "choice": {"tracks": 64, "first": 8, "gas": (0.0, -0.25, -0.5), "brake": (0.0, 0.2),
               "steer": (0.0, -0.05, 0.05)},
    "laps": 100,  # twice in Gymnasium, three times in EnvPool: 12 min. In all: 237 min.
    # A stage of its own: 30 × 0.5 M steps, 3 h 30 min, and 30 × 32 laps, 12 min.
    "ablation": {
        "seeds": 10, "env_steps": 500_000, "tracks": 32,
        "ctrl": {"pop_size": 16, "n_samples": 2, "patience": 60, "sigma0": 0.4},
    },
    "samples": {"episodes": 3, "seq_len": TIME_LIMIT},
}  # fmt: skip

# Every stage in seconds: whether it runs, not whether it learns.
SHORT = {"pop_size": 3, "n_samples": 1, "num_generations": 2, "patience": 5}
TINY: dict[str, Any] = {
    "time_limit": 12,
    "play": {"episodes": 6, "seq_len": 12},
    "round1": {
        "vae": {"num_epochs": 1, "epoch_size": 32},
        "rnn": {"num_epochs": 1, "seq_len": 4, "hidden_size": 8},
        "ctrl": SHORT,
    },
    "drives": 6,
    "round2": {
        "vae": {"num_epochs": 2, "epoch_size": 32, "beta": 0.1},
        "rnn": {"num_epochs": 1, "seq_len": 4, "hidden_size": 8},
    },
    "envpool": SHORT | {"sigma0": 0.25},
    "gymnasium": SHORT | {"sigma0": 0.12, "sample_z": True, "evaluator": "gymnasium"},
    "choice": {"tracks": 2, "first": 1, "gas": (0.0, -0.25), "brake": (0.0,), "steer": (0.0, 0.1)},
    "laps": 2,
    "ablation": {"seeds": 2, "env_steps": 40, "tracks": 2, "ctrl": SHORT | {"sigma0": 0.4}},
    "samples": {"episodes": 1, "seq_len": 5},
}
