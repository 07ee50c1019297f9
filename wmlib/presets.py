"""One recipe, three sizes."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS", "VARIANTS"]

# What the command line's flags do not set. `rollouts` is a list of calls of generate_rollouts,
# each up to `num_rollouts` files in all; `again` is the second round, on what the first one drives.
PRESETS: dict[str, dict[str, Any]] = {
    # The paper's sizes and the reference page's defaults, for whoever sets the rest by hand.
    "none": {
        "rollouts": [{"num_rollouts": 1000, "seq_len": 1000, "policy": "random"}],
        "episodes": 100,
        "vae": {},
        "rnn": {},
        "ctrl": {},
    },
    # Every stage in seconds: whether it runs, not whether it learns.
    "smoke": {
        "rollouts": [{"num_rollouts": 4, "seq_len": 40, "policy": "brownian"}],
        "episodes": 2,
        "vae": {"num_epochs": 2, "epoch_size": 64, "num_test_files": 1},
        "rnn": {"num_epochs": 2, "seq_len": 8, "epoch_size": 32, "num_test_files": 1},
        "ctrl": {
            "pop_size": 4, "n_samples": 1, "num_generations": 2, "time_limit": 40,
            "eval_interval": 1, "eval_episodes": 2, "max_workers": 2,
        },
    },
    # A driver that clearly beats chance, within a quarter of an hour on two cores.
    "quick": {
        "rollouts": [{"num_rollouts": 96, "seq_len": 300, "policy": "brownian"}],
        "episodes": 10,
        "vae": {
            "train_batch_size": 100, "num_epochs": 6, "epoch_size": 15_000, "num_test_files": 6,
            "schedule": "cosine", "sample_interval": 3,
        },
        "rnn": {
            "batch_size": 64, "seq_len": 64, "num_epochs": 10, "epoch_size": 6_400,
            "num_test_files": 6, "optimizer": "adam", "schedule": "cosine",
        },
        "ctrl": {
            "pop_size": 16, "n_samples": 2, "num_generations": 14, "patience": 60,
            "eval_interval": 7, "eval_episodes": 8,
        },
    },
    # The shipped driver. Round one sees varied random play, round two what round one drives.
    "full": {
        "rollouts": [
            {"num_rollouts": 256, "seq_len": 500, "policy": "brownian"},
            {"num_rollouts": 280, "seq_len": 500, "policy": "brownian", "backend": "gymnasium"},
        ],
        "episodes": 100,
        "vae": {
            "train_batch_size": 100, "num_epochs": 12, "epoch_size": 20_000, "num_test_files": 12,
            "schedule": "cosine",
        },
        "rnn": {
            "batch_size": 64, "seq_len": 64, "num_epochs": 20, "epoch_size": 12_800,
            "num_test_files": 12, "optimizer": "adam", "schedule": "cosine",
        },
        "ctrl": {
            "pop_size": 16, "n_samples": 2, "num_generations": 40, "patience": 60,
            "eval_interval": 10, "eval_episodes": 16,
        },
        "again": {
            "rollouts": [
                {"num_rollouts": 480, "seq_len": 1000, "policy": "drive"},
                {"num_rollouts": 500, "seq_len": 1000, "policy": "drive", "backend": "gymnasium"},
            ],
            "vae": {
                "train_batch_size": 100, "num_epochs": 30, "epoch_size": 20_000,
                "num_test_files": 20, "schedule": "cosine",
            },
            "rnn": {
                "batch_size": 64, "seq_len": 64, "num_epochs": 40, "epoch_size": 12_800,
                "num_test_files": 20, "optimizer": "adam", "schedule": "cosine",
            },
            "ctrl": {
                "start": "driver", "coordinates": "axes", "fitness": "rank", "sigma0": 0.1,
                "pop_size": 24, "n_samples": 2, "hard_samples": 2,
                "num_generations": 400, "patience": 60, "backend": "gymnasium",
                "eval_interval": 10, "eval_episodes": 64, "target_return": 925.0,
            },
            "ablation": {
                "start": "zero", "coordinates": "weights", "fitness": "return", "sigma0": 0.1,
                "pop_size": 16, "hard_samples": 0, "backend": "auto",
                "num_generations": 25, "eval_interval": 25, "eval_episodes": 16,
            },
        },
    },
}  # fmt: skip

# The ablation: each variant's name in a report, and what it changes. Two more seeds of the whole
# agent say how much of a difference is luck.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "v_only": ("V only, z", {"use_h": False}),
    "untrained_m": ("V + untrained M", {"trained_m": False}),
    "v_m": ("V + M, z and h", {}),
    "v_m_2": ("V + M, z and h, second seed", {"seed": 1}),
    "v_m_3": ("V + M, z and h, third seed", {"seed": 2}),
}
