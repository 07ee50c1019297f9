"""What a widget needs of a page: its module, its files, its numbers."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import cv2
import numpy as np
import traitlets

from wmlib.checkpoints import atomic_path

__all__ = ["ASSETS", "PARTS", "PREFIXES", "SHIPPED", "STATIC", "Numbers", "PageWidget", "asset",
           "embed", "encode_png", "esm", "standalone"]  # fmt: skip

STATIC = Path(__file__).parent / "static"
SHIPPED = STATIC / "model"
PARTS = ("v", "m", "real")
PREFIXES = {"carracing-v3": "", "takecover": "takecover-"}  # of the files, by shipped weights
ASSETS = tuple(prefix + part for prefix in PREFIXES.values() for part in PARTS)


def asset(name: str, folder: str | os.PathLike[str] = SHIPPED) -> bytes:
    """The bytes of one exported file; ``name`` is "v", "m" or "real", or "takecover-v", say.

    Raises:
        FileNotFoundError: If it was never exported into that folder.
        ValueError: If no file has that name.
    """
    if name not in ASSETS:
        raise ValueError(f"no asset is called {name!r}; there are {', '.join(ASSETS)}")
    path = Path(folder) / f"{name}.safetensors"
    if not path.exists():
        cure = "" if folder == SHIPPED else " --logdir LOGDIR, and give the folder that it names"
        raise FileNotFoundError(f"{path} is missing: run python -m wmlib.show.export{cure}")
    return path.read_bytes()


def embed(folder: Path) -> None:
    """Write the assets as classic scripts, which load over http and from ``file://`` alike."""
    for name in ASSETS:
        text = base64.b64encode(asset(name)).decode()
        with atomic_path(folder / f"{name}.js") as temporary:
            script = f'(globalThis.wmlibAssets ??= {{}})["{name}"] = "{text}";\n'
            temporary.write_text(script, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Sphinx calls this where ``wmlib.show.pages`` is listed among the extensions."""

    def finish(app: Any, error: Exception | None) -> None:
        if error is None and app.builder.format == "html":
            embed(Path(app.outdir) / "_static" / "wmlib")

    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def encode_png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3) uint8 as PNG."""
    done, data = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    assert done
    return data.tobytes()


def esm(*names: str) -> str:
    """One ES module out of the sources it needs: front ends import it alone, from a blob."""
    return f"{_sources(*names)}\nexport default widget(mount);\n"


def standalone(*names: str, state: dict[str, Any]) -> str:
    """A widget as a classic script, for a page without a notebook, over http and ``file://``.

    It fills the element that stands before the script. Nobody else watches its traits.

    Args:
        names: The sources it needs.
        state: The traits' values, as JSON can hold them.
    """
    css = json.dumps((STATIC / "widgets.css").read_text(encoding="utf-8"))
    return f"""(() => {{
{_sources(*names)}
const state = {json.dumps(state)};
const model = {{
  get: (name) => state[name],
  set(name, value) {{ state[name] = value; }},
  on() {{}},
  save_changes() {{}},
}};
const el = document.currentScript.previousElementSibling;
document.head.append(make("style", {{}}, {css}));
el.replaceChildren();
widget(mount).render({{ model, el }});
}})();
"""


def _sources(*names: str) -> str:
    files = [STATIC / f"{name}.js" for name in ("page", "numbers", *names)]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


class Numbers(traitlets.List[Any]):
    """A list of floats that takes any one-dimensional array."""

    def __init__(self, length: int | None = None, **kwargs: Any) -> None:
        self.length = length
        super().__init__(**kwargs)

    def validate(self, obj: Any, value: Any) -> list[float]:
        array = np.asarray(value, dtype=float)
        if array.ndim != 1 or self.length not in (None, len(array)):
            wanted = f"{self.length or 'a list of'} numbers"
            raise traitlets.TraitError(f"{self.name} must be {wanted}, found shape {array.shape}")
        if not np.isfinite(array).all():
            raise traitlets.TraitError(f"{self.name} must be finite, found {value}")
        return list(array.tolist())


class PageWidget(anywidget.AnyWidget):
    """What all of them share: the stylesheet, the exported files, and what shows without a page.

    Args:
        folder: Where ``wmlib.show.export`` wrote models of one's own; the shipped ones if left out.
            The widget carries them along, into a saved notebook and into a page built from it.
    """

    _css = (STATIC / "widgets.css").read_text(encoding="utf-8")
    _alt = traitlets.Unicode().tag(sync=True)
    _picture = traitlets.Unicode().tag(sync=True)
    game = traitlets.Unicode("carracing-v3", read_only=True).tag(sync=True)  # whose files it shows
    _own = traitlets.Dict().tag(sync=True)  # base64 by name; empty for the shipped models

    def __init__(self, folder: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        picture = (STATIC / "pictures" / f"{type(self).__name__}.jpg").read_bytes()
        url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        prefix = PREFIXES[self.game]
        files = {prefix + part: asset(part, folder) for part in PARTS} if folder else {}
        own = {name: base64.b64encode(content).decode() for name, content in files.items()}
        super().__init__(_picture=url, _own=own, **kwargs)

    def __repr__(self) -> str:
        # The same in every run, so that notebooks can be compared.
        return f"<{type(self).__name__}: {self._alt}>"

    @anywidget.experimental.command
    def _asset(self, name: str, buffers: Sequence[bytes]) -> tuple[dict[str, str], list[bytes]]:
        """Answer a page that has a kernel with the bytes of an exported file."""
        try:
            return {"base64": base64.b64encode(asset(name)).decode()}, []
        except (OSError, ValueError) as error:
            return {"error": str(error)}, []
