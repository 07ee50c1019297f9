"""Bytes on disk, floats in the models, one size everywhere."""

import cv2
import numpy as np
import torch
from torch import Tensor

FRAME_SIZE = (64, 64)  # height and width of every frame that V sees


def resize(frames: np.ndarray, size: tuple[int, int] = FRAME_SIZE) -> np.ndarray:
    """The one resizer: frames (…, H, W, C) uint8 to (…, *size, C) uint8.

    Below a factor of two it is bilinear (on CarRacing's frames, 96 → 64, 0.3 levels from the area
    mean on average, at a fifth of its cost); beyond, the area mean, which does not alias.

    Raises ValueError if the frames are not uint8.
    """
    if frames.dtype != np.uint8:
        raise ValueError(f"frames must be uint8, found {frames.dtype}; scale them to 0 … 255")
    height, width = frames.shape[-3:-1]
    if (height, width) == size:
        return frames
    near = height < 2 * size[0] and width < 2 * size[1]
    method = cv2.INTER_LINEAR if near else cv2.INTER_AREA
    flat = frames.reshape(-1, *frames.shape[-3:])
    small = np.empty((len(flat), *size, frames.shape[-1]), dtype=np.uint8)
    for source, target in zip(flat, small, strict=True):
        cv2.resize(source, size[::-1], dst=target, interpolation=method)
    return small.reshape(*frames.shape[:-3], *size, frames.shape[-1])


def frames_to_tensor(frames: np.ndarray | Tensor) -> Tensor:
    """The one conversion: frames (…, H, W, C) uint8 to floats (…, C, H, W) in [0, 1].

    The result keeps the frames' memory order (channels last), which convolutions prefer.
    """
    return torch.as_tensor(frames).movedim(-1, -3).float() / 255


def tensor_to_frames(x: Tensor) -> np.ndarray:
    """Its inverse: floats (…, C, H, W) in [0, 1] to frames (…, H, W, C) uint8."""
    levels = (x.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.movedim(-3, -1).cpu().numpy())
