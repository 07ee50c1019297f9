"""One resizer, one conversion."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from wmlib.pixels import frames_to_tensor, resize, tensor_to_frames


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_every_level_goes_round() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=-1)
    x = frames_to_tensor(levels)
    assert (x.shape, x.dtype) == ((3, 16, 16), torch.float32)
    assert (x.min(), x.max()) == (0, 1)
    np.testing.assert_array_equal(tensor_to_frames(x), levels)


def test_channels_move_and_pixels_stay() -> None:
    frames = noise(5, 4, 6, 3)
    x = frames_to_tensor(frames)
    assert x.shape == (5, 3, 4, 6)
    for b, c, i, j in [(0, 0, 0, 0), (4, 2, 3, 5), (2, 1, 0, 5)]:
        assert x[b, c, i, j] == pytest.approx(frames[b, i, j, c] / 255)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 5, 3)])
def test_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    frames = noise(*shape[:-1], 8, 8, shape[-1])
    x = frames_to_tensor(torch.from_numpy(frames))
    assert x.shape == (*shape, 8, 8)
    np.testing.assert_array_equal(tensor_to_frames(x), frames)


def test_frames_keep_their_memory_order() -> None:
    """Channels last: what convolutions prefer, and no copy of the bytes."""
    assert frames_to_tensor(noise(2, 8, 8, 3)).is_contiguous(memory_format=torch.channels_last)


def test_what_leaves_the_range_is_clipped() -> None:
    x = torch.tensor([-0.5, 0.0, 0.5, 1.0, 7.0]).view(1, 1, 5).expand(3, 1, 5)
    assert tensor_to_frames(x)[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_half_precision_and_gradients_are_no_obstacle() -> None:
    x = torch.full((3, 2, 2), 0.2, dtype=torch.bfloat16, requires_grad=True)
    assert (tensor_to_frames(x) == 51).all()


def test_frames_of_the_right_size_are_left_alone() -> None:
    frames = noise(3, 64, 64, 3)
    assert resize(frames) is frames


@pytest.mark.parametrize("size", [96, 128, 200, 32, 65])
def test_flat_colours_survive(size: int) -> None:
    colour = np.uint8([3, 107, 190])
    frames = np.broadcast_to(colour, (2, size, size, 3))
    assert (resize(frames) == colour).all()


@pytest.mark.parametrize("shape", [(96, 96, 3), (5, 96, 96, 3), (2, 5, 400, 600, 3), (96, 80, 1)])
def test_shapes_and_dtype(shape: tuple[int, ...]) -> None:
    small = resize(noise(*shape))
    assert small.shape == (*shape[:-3], 64, 64, shape[-1])
    assert small.dtype == np.uint8


def test_sizes_are_height_by_width() -> None:
    assert resize(noise(96, 96, 3), (40, 50)).shape == (40, 50, 3)


def test_a_batch_is_resized_as_its_frames_are() -> None:
    frames = noise(4, 96, 96, 3)
    np.testing.assert_array_equal(resize(frames), np.stack([resize(f) for f in frames]))


def test_strided_frames_are_resized_as_their_copies() -> None:
    frames = noise(192, 96, 3)[::2, ::-1]
    np.testing.assert_array_equal(resize(frames), resize(frames.copy()))


def test_large_pictures_are_averaged_not_sampled() -> None:
    """Beyond a factor of two a resizer that skips pixels would alias."""
    frame = noise(256, 256, 3)
    area = frame.reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(resize(frame) - area).max() <= 0.5


def test_small_factors_stay_near_the_area_mean() -> None:
    """From 96 to 64, bilinear weights are 3:1 where the area's are 2:1.

    That is a twelfth of the step between neighbours, in each direction, and half a level.
    """
    y, x = np.mgrid[:96, :96]
    picture = (127.5 + 127.5 * np.sin(y / 9) * np.cos(x / 7)).round()
    steps = np.abs(np.diff(picture, axis=0)).max() + np.abs(np.diff(picture, axis=1)).max()
    area = picture.repeat(2, 0).repeat(2, 1).reshape(64, 3, 64, 3).mean((1, 3))  # 192 = 3 × 64
    error = np.abs(resize(picture.astype(np.uint8)[..., None])[..., 0] - area).max()
    assert error <= steps / 12 + 0.5


def test_what_is_not_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        resize(np.zeros((96, 96, 3)))


def test_nobody_else_divides_by_255_or_resizes_fault_14(root: Path) -> None:
    """Fault 14: three resizers in three stages, ``/255`` in six places, and mirroring flips."""
    own = re.compile(r"/ ?255|cv2\.resize|interpolate\(|(?<!kernel)\.flip\(|fliplr")
    rooms = {path.stem: path.read_text() for path in (root / "wmlib").rglob("*.py")}
    assert {room for room, text in rooms.items() if own.search(text)} == {"pixels"}
