"""The models, packed small enough for a reader's page.

``python -m wmlib.show.export --logdir LOGDIR`` writes three safetensors files, which the widgets
read (``folder=``): ``v`` (the decoder), ``m`` (the cell and the controller) and ``real`` (recorded
frames and latents), each with the SHA-256 of the weights it was made from and its error against
fp32 PyTorch. Without ``--logdir`` it packs the shipped models, for the widgets of the book's pages:
CarRacing's, and Doom's as ``takecover-v`` and so on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from wmlib.checkpoints import atomic_path
from wmlib.controller import Controller
from wmlib.envs import TAKE_COVER
from wmlib.mdrnn import LOGSIGMA_RANGE, MDRNNCell
from wmlib.pixels import frames_to_tensor
from wmlib.rollouts import Rollout
from wmlib.show.pages import PARTS, PREFIXES, SHIPPED, encode_png
from wmlib.vae import ConvVAE, ConvVAEDecoder, kl_divergence
from wmlib.world import WorldModel, load_pretrained, load_trained

__all__ = ["checkpoint_hashes", "decode_packed", "export", "fold_decoder"]

SHEET_COLUMNS = 16


@dataclass(frozen=True)
class Recording:
    """Which real frames go along, and how exact M is.

    Attributes:
        film: Steps of the first episode that become the film.
        starts: How many frames a dream can start from, spread over all episodes.
        first: The earliest step of an episode for a start.
        spare: Steps between an episode's last start and its end.
        light: M's matrices go along as bytes, and V's in half precision, where M is large.
    """

    film: int = 300  # six seconds of driving
    starts: int = 12
    first: int = 60
    spare: int = 1
    light: bool = False


# In Doom a game begins in the empty room, and nobody wants a dream that begins with its end. Only
# CarRacing's film is shown in a page.
RECORDINGS = {
    "carracing-v3": Recording(),
    "takecover": Recording(60, 12, first=0, spare=40, light=True),
}
OF_A_CAR = RECORDINGS["carracing-v3"]


def checkpoint_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file in a folder, shipped or of a training, by its name there."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*/best.tar")])
    names = [file.relative_to(folder).as_posix() for file in files]
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return dict(zip(names, hashes, strict=True))


def fold_decoder(decoder: ConvVAEDecoder) -> dict[str, Tensor]:
    """The decoder in the page's layout, its first two layers folded into one.

    Nothing stands between ``fc`` and ``deconv1`` but their biases, so together they are a single
    linear map from z to the (5, 5, 128) feature map: 102,400 weights instead of 3,309,568, and
    the same frame. Height and width come before channels, as the page's loops run.

    Returns:
        ``w1`` (L, 5, 5, 128), ``b1`` (5, 5, 128) and, for layers 2 to 4, ``w`` (in, k, k, out)
        and ``b`` (out).
    """
    first = decoder.deconv1.weight.permute(0, 2, 3, 1)  # (1024, 5, 5, 128)
    bias = decoder.deconv1.bias
    assert bias is not None
    packed = {
        "w1": torch.einsum("il,iyxo->lyxo", decoder.fc.weight, first),
        "b1": torch.einsum("i,iyxo->yxo", decoder.fc.bias, first) + bias,
    }
    for i, layer in enumerate((decoder.deconv2, decoder.deconv3, decoder.deconv4), start=2):
        assert layer.bias is not None
        packed[f"w{i}"] = layer.weight.permute(0, 2, 3, 1)
        packed[f"b{i}"] = layer.bias
    return {key: value.detach().contiguous() for key, value in packed.items()}


def decode_packed(packed: dict[str, Tensor], z: Tensor) -> Tensor:
    """What the page computes: latents (B, L) to frames (B, 3, 64, 64), from the packed layout."""
    w = {key: value.float() for key, value in packed.items()}
    x = torch.einsum("bl,lyxo->boyx", z, w["w1"]) + w["b1"].permute(2, 0, 1)  # (B, 128, 5, 5)
    for i in (2, 3, 4):
        x = F.conv_transpose2d(x.relu(), w[f"w{i}"].permute(0, 3, 1, 2), w[f"b{i}"], stride=2)
    return torch.sigmoid(x)


def pack_dynamics(cell: MDRNNCell, controller: Controller) -> dict[str, Tensor]:
    """M and C as the page reads them; the LSTM's two biases are only ever added together.

    C sees z and S further numbers: h, or h and c. Of a mixture head, W is 1, or L where each latent
    has a mixture of its own.
    """
    return {
        "w_ih": cell.rnn.weight_ih.detach(),  # (4H, A + L)
        "w_hh": cell.rnn.weight_hh.detach(),  # (4H, H)
        "b": (cell.rnn.bias_ih + cell.rnn.bias_hh).detach(),  # (4H,)
        "w_out": cell.gmm_linear.weight.detach(),  # (2KL + KW + 2, H)
        "b_out": cell.gmm_linear.bias.detach(),
        "w_c": controller.fc.weight.detach(),  # (A, L + S)
        "b_c": controller.fc.bias.detach(),
    }


def _halve(packed: dict[str, Tensor], keep: Sequence[str] = ()) -> dict[str, Tensor]:
    """fp16 for the large tensors; biases and those in ``keep`` stay fp32."""
    small = {key for key in packed if key.startswith("b")} | set(keep)
    return {key: v.float() if key in small else v.half() for key, v in packed.items()}


def in_bytes(packed: dict[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Matrices of these names as whole numbers from -127 to 127, with a scale for each row.

    A matrix ``w`` gets a companion ``w_scale`` (rows,).
    """
    scales = {f"{name}_scale": packed[name].float().abs().amax(1) / 127 for name in names}
    whole = {name: (packed[name] / scales[f"{name}_scale"][:, None]).round() for name in names}
    return packed | {name: value.to(torch.int8) for name, value in whole.items()} | scales


def in_floats(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the page reads: fp32, whole numbers times their scale."""
    read = {key: value.float() for key, value in packed.items()}
    for key in [key for key in read if f"{key}_scale" in read]:
        read[key] = read[key] * read.pop(f"{key}_scale")[:, None]
    return read


@torch.no_grad()
def pack_real(
    world: WorldModel, episodes: Sequence[Rollout], recording: Recording
) -> dict[str, Tensor]:
    """Real frames and what V and M make of them.

    The film is the beginning of the first episode. The starts are spread over all episodes, each
    with the (h, c) that M has come to by watching the episode up to there.

    Returns:
        ``sheet``, a PNG of all frames (the starts, then the film) in rows of 16; ``start_z``
        (S, L), ``start_h`` and ``start_c`` (S, H); ``z`` (T, L), ``actions`` (T, A) of the film;
        ``kl`` (L,), nats per latent, the mean over all frames; ``floor`` (T,), V's own error on
        each frame of the film, root mean squared, in levels of 255.
    """
    cell = world.cell
    start_frames, rows, kls, starts = [], [], [], recording.starts
    for episode in episodes:
        mu, logsigma = world.vae.encoder(frames_to_tensor(episode.observations))  # (T, L) each
        kls.append(kl_divergence(mu, logsigma))
        last, count = len(mu) - recording.spare, -(-starts // len(episodes))
        times = np.linspace(recording.first, last, count).astype(int).tolist()
        hidden = cell.get_init_hidden(1)
        for t in range(len(mu)):
            if t in times:
                start_frames.append(episode.observations[t])
                rows.append((mu[t], hidden[0][0], hidden[1][0]))
            action = torch.from_numpy(episode.actions[t : t + 1])
            hidden = cell.step(action, mu[t : t + 1], hidden)
    start_z, start_h, start_c = (torch.stack(part)[:starts] for part in zip(*rows, strict=True))
    film = episodes[0].observations[: recording.film]
    z, _ = world.vae.encoder(frames_to_tensor(film))
    error = 255 * (world.vae.decoder(z) - frames_to_tensor(film))
    frames = np.concatenate([np.stack(start_frames)[:starts], film])
    return {
        "sheet": torch.frombuffer(_png_sheet(frames), dtype=torch.uint8),
        "start_z": start_z,
        "start_h": start_h,
        "start_c": start_c,
        "z": z,
        "actions": torch.from_numpy(episodes[0].actions[: recording.film]),
        "kl": torch.cat(kls).mean(0),
        "floor": error.pow(2).mean((1, 2, 3)).sqrt(),
    }


def _png_sheet(frames: np.ndarray) -> bytearray:
    """Frames (N, 64, 64, 3) side by side in rows of 16, as one PNG without loss."""
    n, size = len(frames), frames.shape[1]
    padded = np.zeros((-(-n // SHEET_COLUMNS) * SHEET_COLUMNS, size, size, 3), np.uint8)
    padded[:n] = frames
    grid = padded.reshape(-1, SHEET_COLUMNS, size, size, 3).swapaxes(1, 2)
    sheet = grid.reshape(-1, SHEET_COLUMNS * size, 3)
    return bytearray(encode_png(sheet))


@torch.no_grad()
def decode_error(vae: ConvVAE, packed: dict[str, Tensor], z: Tensor) -> float:
    """Largest difference in levels of 255 between the packed decoder and fp32 PyTorch."""
    return 255 * float((decode_packed(packed, z) - vae.decoder(z)).abs().max())


@torch.no_grad()
def dynamics_error(
    world: WorldModel, packed: dict[str, Tensor], z: Tensor, actions: Tensor, steps: int = 50
) -> float:
    """Largest difference in M's outputs between packed and fp32 weights, over ``steps`` steps."""
    cell, ours, packed = world.cell, world.cell, in_floats(packed)
    names = {"rnn.weight_ih": "w_ih", "rnn.weight_hh": "w_hh", "rnn.bias_ih": "b",
             "gmm_linear.weight": "w_out", "gmm_linear.bias": "b_out"}  # fmt: skip
    zeros = {"rnn.bias_hh": torch.zeros_like(packed["b"])}  # it is part of bias_ih already
    ours.load_state_dict({name: packed[key] for name, key in names.items()} | zeros)
    worst, hidden, hidden_ours = 0.0, cell.get_init_hidden(1), cell.get_init_hidden(1)
    for t in range(min(steps, len(z))):
        *exact, hidden = cell(actions[t : t + 1], z[t : t + 1], hidden)
        *found, hidden_ours = ours(actions[t : t + 1], z[t : t + 1], hidden_ours)
        worst = max(worst, *(float((x - y).abs().max()) for x, y in zip(exact, found, strict=True)))
    return worst


def export(
    world: WorldModel,
    episodes: Sequence[Rollout],
    out: Path,
    prefix: str = "",
    recording: Recording = OF_A_CAR,
) -> None:
    """Write ``v``, ``m`` and ``real`` into ``out``.

    Args:
        world: V, M and C; their weight files in ``world.folder`` are named in the export.
        episodes: Real ones; those that are long enough for ``recording`` are used, and the
            beginning of the first becomes the film.
        out: Folder, made if missing.
        prefix: What the files' names begin with.
        recording: Which real frames go along.

    Raises:
        ValueError: If no episode is long enough.
    """
    cell = world.cell
    count, longest = len(episodes), max(map(len, episodes), default=0)
    least = recording.first + recording.spare
    episodes = [episode for episode in episodes if len(episode) >= least]
    if not episodes:
        raise ValueError(
            f"the longest of {count} episodes has {longest} steps; the widgets need {least}"
        )
    real = pack_real(world, episodes, recording)
    v = _halve(fold_decoder(world.vae.decoder), keep=[] if recording.light else ["w1"])
    m = _halve(pack_dynamics(cell, world.controller), keep=["w_c"])
    m = in_bytes(m, ["w_ih", "w_hh", "w_out"]) if recording.light else m
    wide = 2 * torch.randn(64, world.vae.latent_size, generator=torch.Generator().manual_seed(0))
    v_error = decode_error(world.vae, v, torch.cat([real["z"], wide]))
    m_error = dynamics_error(world, m, real["z"], real["actions"])
    keys = "keys" if world.env_name == TAKE_COVER else "car"  # how the page moves in the game
    sizes: dict[str, Any] = {
        name: getattr(cell, name) for name in ("latents", "hiddens", "gaussians")
    }
    sizes |= {"logsigma_range": LOGSIGMA_RANGE, "actions": keys}
    packs: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {
        "v": (v, {"error": v_error}),  # levels of 255
        "m": (m, {"error": m_error, **sizes}),
        "real": (real, {"columns": SHEET_COLUMNS}),
    }
    source = json.dumps(checkpoint_hashes(world.folder))
    for name, (tensors, notes) in packs.items():
        contiguous = {key: value.contiguous() for key, value in tensors.items()}
        with atomic_path(out / f"{prefix}{name}.safetensors") as temporary:
            save_file(contiguous, temporary, {"source": source, "notes": json.dumps(notes)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack V, M and C, with recorded episodes, for the widgets."""
    parser = argparse.ArgumentParser(prog="python -m wmlib.show.export", description=main.__doc__)
    add = parser.add_argument
    add("--logdir", type=Path, help="your training (default: the shipped models, for the book)")
    add("--out", type=Path, help="where to write (default: LOGDIR/page)")
    args = parser.parse_args(arguments)
    if args.out and not args.logdir:
        parser.error("--out goes with --logdir: the shipped models have their place")
    if args.logdir:
        world = load_trained(args.logdir)
        own = sorted(world.rollouts(), key=len, reverse=True)  # the longest is the film
        game = "takecover" if world.env_name == TAKE_COVER else "carracing-v3"
        _export_and_say(world, own, args.out or args.logdir / "page", "", RECORDINGS[game])
        return
    for game, recording in RECORDINGS.items():
        world = load_pretrained(game)
        _export_and_say(world, world.rollouts(), SHIPPED, PREFIXES[game], recording)


def _export_and_say(
    world: WorldModel, episodes: list[Rollout], out: Path, prefix: str, recording: Recording
) -> None:
    export(world, episodes, out, prefix, recording)
    for part in PARTS:
        path = out / f"{prefix}{part}"
        print(f"{path}.safetensors: {path.with_suffix('.safetensors').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
