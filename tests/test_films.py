"""Films and strips: the frames given are the frames shown."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from wmlib import ConvVAE, tensor_to_frames
from wmlib.show import films


def flat(*levels: int) -> np.ndarray:
    """A frame (64, 64, 3) of one grey per level: (T, 64, 64, 3)."""
    return np.stack([np.full((64, 64, 3), level, np.uint8) for level in levels])


def opened(picture: films.Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.png()))


def test_a_film_plays_the_frames_in_order_and_in_step() -> None:
    film = films.film({"left": flat(0, 100, 200), "right": flat(50, 150, 250)}, "two greys", fps=20)
    image = opened(film)
    assert (image.n_frames, image.info["duration"]) == (3, 50)
    middle = 40 + 64 * film.scale // 2  # below the captions
    for t in range(3):
        image.seek(t)
        row = np.asarray(image.convert("RGB"))[middle, :, 0]
        assert row[10] == film.panels["left"][t, 0, 0, 0]
        assert row[-10] == film.panels["right"][t, 0, 0, 0]


def test_a_film_counts_its_steps_below_the_frames() -> None:
    plain = films.film(flat(0, 0, 0), "black")
    counted = films.film(flat(0, 0, 0), "black", every=3)
    high = opened(plain).height
    lines = []
    for t in range(3):
        card = counted._card(t)
        assert (card[:high] == plain._card(t)).all()
        lines.append(card[high:])
    assert (lines[1] == films._band("step 3", opened(plain).width, films.FONT)).all()
    assert (lines[1] != lines[2]).any()


def test_a_film_loops_for_ever() -> None:
    assert opened(films.film(flat(0, 100), "two greys")).info["loop"] == 0


def test_without_captions_there_are_the_frames_alone() -> None:
    film = films.film(flat(0, 100), "two greys")
    assert opened(film).size == (64 * film.scale, 64 * film.scale)


def test_a_caption_longer_than_its_panel_is_made_smaller() -> None:
    film = films.film({"a caption that is much too long to fit " * 3: flat(0)}, "black")
    assert opened(film).width == 64 * film.scale


def test_frames_of_a_strip_stand_in_their_places() -> None:
    strip = films.strip({"real": flat(10, 20), "drawn": flat(30, 40)}, "four greys")
    above, below = (frames[0, 32, :, 0] for frames in strip.panels.values())
    assert [int(row[column]) for row in (above, below) for column in (32, 98)] == [10, 20, 30, 40]
    assert opened(strip).mode == "RGB"  # a still keeps all its colours


def test_pictures_never_shown_wider_than_a_page() -> None:
    strip = films.strip(flat(*range(12)), "twelve greys")
    assert opened(strip).width >= strip.width == films.WIDTH


@pytest.mark.parametrize(
    "panels", [flat(0)[0], {"a": flat(0), "b": flat(0, 1)}, {"a": flat(0)[..., 0]}]
)
def test_panels_that_do_not_fit_are_refused(panels) -> None:
    with pytest.raises(ValueError, match="found"):
        films.film(panels, "nothing")


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="as many frames"):
        films.strip({"a": flat(0), "b": flat(0, 1)}, "nothing")


def test_a_film_says_in_words_what_it_shows(tmp_path: Path) -> None:
    film = films.film(flat(0, 1), "black turns grey")
    data, said = film._repr_mimebundle_()
    assert data["text/plain"] == "<Frames: black turns grey>"
    assert said["image/png"] == {"alt": "black turns grey", "width": 256, "class": "wm-frames"}
    film.save(tmp_path / "film.png")
    assert (tmp_path / "film.png").read_bytes() == film.png()


def test_a_traversal_varies_one_latent_and_keeps_the_rest() -> None:
    torch.manual_seed(0)
    vae, z = ConvVAE().eval(), torch.randn(32)
    picture = films.traversal(vae, z, [3, 7], [-2.0, 0.0, 2.0], "two rows")
    assert list(picture.panels) == ["z 3 from -2 to 2", "z 7 from -2 to 2"]
    wanted = z.clone()
    wanted[7] = 2.0
    frame = tensor_to_frames(vae.decoder(wanted[None]).detach())[0]
    shown = picture.panels["z 7 from -2 to 2"][0][:, 2 * 66 + 1 : 2 * 66 + 65]
    assert np.abs(shown.astype(int) - frame.astype(int)).max() <= 1
