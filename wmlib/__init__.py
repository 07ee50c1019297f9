"""The front door.

V sees, M remembers and foresees, C drives: World Models (Ha & Schmidhuber, 2018). The names below
stand in reading order. What people look at (films, plots, widgets) is in ``wmlib.show``.
"""

import os
import signal
import sys

# On a busy machine, threads that spin while they wait take the cores. Read as torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
if sys.argv[:1] == ["-m"] and "wmlib" in sys.orig_argv:  # Ctrl-C while the command line loads
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))

# The paper
from wmlib.vae import ConvVAE, ConvVAEDecoder, ConvVAEEncoder, conv_vae_loss_fn
from wmlib.mixture import gmm_loss, sample_gmm
from wmlib.mdrnn import MDRNN, MDRNNCell, get_loss
from wmlib.controller import Controller, flatten_parameters, load_parameters
from wmlib.search import Search

# The data
from wmlib.pixels import frames_to_tensor, resize, tensor_to_frames
from wmlib.envs import ActionMap, GymImageEnv, episode_seed, make_env, make_image_env
from wmlib.vector_envs import make_vector_env
from wmlib.rollouts import Rollout, read_rollout, rollout_files, save_rollout
from wmlib.policies import make_policy
from wmlib.collect import generate_rollouts, play
from wmlib.datasets import LatentSequenceDataset, ObservationDataset
from wmlib.datasets import RolloutDataset, SequenceDataset

# Learning
from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig
from wmlib.schedules import EarlyStopping, ReduceLROnPlateau
from wmlib.latents import encode, load_vae, precompute_latents
from wmlib.training import train_convae, train_mdn_rnn

# Acting
from wmlib.agent import Agent
from wmlib.dream import Dream, DreamEnv
from wmlib.world import WorldModel, load_pretrained, load_trained
from wmlib.evolution import train_controller

# Judging
from wmlib.evaluators import DreamEvaluator, LocalEvaluator
from wmlib.evaluation import evaluate, test_trained_model
from wmlib.diagnosis import diagnose_mdrnn, diagnose_vae, entropy_floor, open_loop_error

__version__ = "0.1.0"

__all__ = [
    "ConvVAE", "ConvVAEDecoder", "ConvVAEEncoder", "conv_vae_loss_fn", "gmm_loss", "sample_gmm",
    "MDRNN", "MDRNNCell", "get_loss", "Controller", "flatten_parameters", "load_parameters",
    "Search", "frames_to_tensor", "resize", "tensor_to_frames", "ActionMap", "GymImageEnv",
    "episode_seed", "make_env", "make_image_env", "make_vector_env", "Rollout", "read_rollout",
    "rollout_files", "save_rollout", "make_policy", "generate_rollouts", "play",
    "LatentSequenceDataset", "ObservationDataset", "RolloutDataset", "SequenceDataset",
    "WMControllerConfig", "WMMDNRNNConfig", "WMVAEConfig", "EarlyStopping", "ReduceLROnPlateau",
    "encode", "load_vae", "precompute_latents", "train_convae", "train_mdn_rnn", "Agent", "Dream",
    "DreamEnv", "WorldModel", "load_pretrained", "load_trained", "train_controller",
    "DreamEvaluator", "LocalEvaluator", "evaluate", "test_trained_model", "diagnose_mdrnn",
    "diagnose_vae", "entropy_floor", "open_loop_error",
]  # fmt: skip
