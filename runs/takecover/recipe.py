"""Every size of the run, and where it is kept."""

from __future__ import annotations

from pathlib import Path

from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig

ENV = "VizdoomTakeCover-v1"
DATA, LOGDIR = Path("data/takecover"), Path("results/takecover")
OWN = Path("data/takecover-own")  # the chosen agent's games, to look at M by; nothing learns here
PACKED = Path("wmlib/pretrained/takecover")
LIMIT = 2100  # tics in a game
FIRST, REST = 800, 1200  # games: V learns from the first, M from all
LATENTS, HIDDEN = 64, 512
HELD_OUT = 100  # games that M does not learn from
TEMPERATURES = (0.1, 0.5, 1.0, 1.15, 1.3)
# Real games: for the audit and the choice; for the final test, the other temperatures, the blind.
GAMES = {"audit": 50, "select": 64, "test": 1000, "table": 60, "blind": 100, "walk": 300}
GAMES["script"] = 30  # the slow one

VAE = WMVAEConfig(
    64,
    64,
    latent_size=LATENTS,
    data_dir=str(DATA / "first"),
    logdir=str(LOGDIR),
    num_epochs=16,
    epoch_size=25_000,
    train_batch_size=100,
    learning_rate=1e-3,
    kl_tolerance=0.5,
    nosamples=True,
)
# Where the paper's M in Doom differs from its M in CarRacing: a mixture for each latent, the end
# of a game weighted tenfold, no reward. C sees z, h and c.
RNN = WMMDNRNNConfig(
    latent_size=LATENTS,
    action_size=1,
    hidden_size=HIDDEN,
    data_dir=str(DATA),
    logdir=str(LOGDIR),
    num_epochs=18,
    learning_rate=1e-3,
    scheduler_patience=18,
    include_reward=False,
    mixture="latent",
    terminal_weight=10.0,
)
CTRL = WMControllerConfig(
    latent_size=LATENTS,
    hidden_size=2 * HIDDEN,
    action_size=1,
    env_name=ENV,
    logdir=str(LOGDIR),
    time_limit=LIMIT,
    pop_size=24,
    n_samples=8,
    num_generations=40,
    sigma0=0.1,
    evaluator="dream",
    target_return=2000.0,  # a dream in which nobody dies has nothing more to teach
)


def search_name(temperature: float) -> str:
    """Folder of C's search at a temperature."""
    return f"ctrl-{temperature:g}"
