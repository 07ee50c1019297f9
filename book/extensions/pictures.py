"""Pictures in notebooks keep the words and the kind that their output's metadata give them."""

from functools import wraps

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.application import Sphinx

drawn = NbElementRenderer.render_image


@wraps(drawn)
def described(self: NbElementRenderer, data: MimeData) -> list[nodes.Element]:
    """MyST-NB takes width and height from there, but neither ``alt`` nor ``class``."""
    found = drawn(self, data)
    said = data.output_metadata.get(data.mime_type, {})
    for image in found:
        if "alt" in said:
            image["alt"] = said["alt"]
        image["classes"] += said.get("class", "").split()
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    NbElementRenderer.render_image = described
    return {"parallel_read_safe": True}
