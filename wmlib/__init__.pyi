"""The front door: its names in reading order, with their types; ``__init__.py`` brings them in."""

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

__version__: str

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

def command() -> None: ...
