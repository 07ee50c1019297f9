"""The front door.

V sees, M remembers and foresees, C drives: World Models (Ha & Schmidhuber, 2018). The names below
stand in reading order.
"""

from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig
from wmlib.pixels import frames_to_tensor, resize, tensor_to_frames
from wmlib.vae import ConvVAE, ConvVAEDecoder, ConvVAEEncoder, conv_vae_loss_fn
from wmlib.mixture import gmm_loss, sample_gmm
from wmlib.mdrnn import MDRNN, MDRNNCell, get_loss
from wmlib.controller import ActionMap, Controller, flatten_parameters, load_parameters
from wmlib.rollouts import Rollout, read_rollout, rollout_files, save_rollout
from wmlib.envs import GymImageEnv, episode_seed, make_env, make_image_env
from wmlib.vector_envs import make_vector_env
from wmlib.policies import NoisyPolicy, make_policy
from wmlib.collect import generate_rollouts, play
from wmlib.datasets import (
    LatentSequenceDataset,
    ObservationDataset,
    RolloutDataset,
    SequenceDataset,
)
from wmlib.batches import BufferedSampler
from wmlib.schedules import EarlyStopping, ReduceLROnPlateau
from wmlib.latents import encode, load_vae, precompute_latents
from wmlib.diagnosis import diagnose_mdrnn, diagnose_vae, entropy_floor, open_loop_error
from wmlib.training import train_convae, train_mdn_rnn
from wmlib.agent import Agent
from wmlib.dream import Dream, DreamEnv
from wmlib.pretrained import WorldModel, load_pretrained, load_trained, save_pretrained
from wmlib.foreign import adopt_checkpoints, read_weights
from wmlib.fitness import LocalEvaluator
from wmlib.evaluation import evaluate
from wmlib.axes import Axes
from wmlib.search import Search
from wmlib.rehearsal import DreamEvaluator
from wmlib.imitation import imitate, input_moments
from wmlib.cluster import RayEvaluator, collect_on_cluster
from wmlib.evolution import train_controller
from wmlib.report import test_trained_model

__version__ = "0.1.0"

__all__ = [
    "WMVAEConfig",
    "WMMDNRNNConfig",
    "WMControllerConfig",
    "frames_to_tensor",
    "tensor_to_frames",
    "resize",
    "ConvVAE",
    "ConvVAEEncoder",
    "ConvVAEDecoder",
    "conv_vae_loss_fn",
    "MDRNN",
    "MDRNNCell",
    "gmm_loss",
    "sample_gmm",
    "get_loss",
    "Controller",
    "ActionMap",
    "flatten_parameters",
    "load_parameters",
    "Rollout",
    "read_rollout",
    "save_rollout",
    "rollout_files",
    "GymImageEnv",
    "make_env",
    "make_image_env",
    "make_vector_env",
    "episode_seed",
    "make_policy",
    "NoisyPolicy",
    "play",
    "generate_rollouts",
    "RolloutDataset",
    "ObservationDataset",
    "SequenceDataset",
    "LatentSequenceDataset",
    "BufferedSampler",
    "EarlyStopping",
    "ReduceLROnPlateau",
    "train_convae",
    "load_vae",
    "encode",
    "precompute_latents",
    "train_mdn_rnn",
    "diagnose_vae",
    "diagnose_mdrnn",
    "entropy_floor",
    "open_loop_error",
    "Agent",
    "Dream",
    "DreamEnv",
    "WorldModel",
    "load_pretrained",
    "load_trained",
    "save_pretrained",
    "read_weights",
    "adopt_checkpoints",
    "evaluate",
    "LocalEvaluator",
    "DreamEvaluator",
    "RayEvaluator",
    "collect_on_cluster",
    "Axes",
    "Search",
    "imitate",
    "input_moments",
    "train_controller",
    "test_trained_model",
]
