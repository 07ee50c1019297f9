"""Pages made from code and reports while the book is built, so that they cannot drift from them."""

import dataclasses
import inspect
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from from_reports import faults, results
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from welcome import numbers

import wmlib
from wmlib import config
from wmlib.show import films, plots, widgets

MARK = "<!-- made while the book is built -->"
ROOT = Path(__file__).resolve().parents[2]
# Rooms of classes that are made by keyword. A configuration's fields have a page of their own, and
# a widget's attributes stand in its docstring.
BY_KEYWORD = {config.__name__: "(**fields)", widgets.__name__: "(**attributes)"}


def defined(room: ModuleType) -> list[str]:
    """The public classes and functions of a room, in the order of its file."""
    return [
        name
        for name, value in vars(room).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == room.__name__
    ]


def api() -> Iterator[str]:
    """Every public name with its docstring, by room, in the order of the front door."""
    rooms: dict[str, list[str]] = {}
    for name in wmlib.__all__:
        module = getattr(getattr(wmlib, name), "__module__", "")
        if module.startswith("wmlib."):
            rooms.setdefault(module, []).append(f"wmlib.{name}")
    for room in (films, plots, widgets):
        rooms[room.__name__] = [f"{room.__name__}.{name}" for name in defined(room)]
    for room, names in rooms.items():
        caption = (inspect.getdoc(sys.modules[room]) or "").splitlines()[0]
        yield f"## `{room}`\n\n{caption}\n"
        for name in names:
            package, _, own = name.rpartition(".")
            is_class = inspect.isclass(getattr(sys.modules[package], own))
            kind = "class" if is_class else "function"
            arguments = BY_KEYWORD.get(room, "") if is_class else ""
            yield f"```{{eval-rst}}\n.. auto{kind}:: {name}{arguments}"
            yield "   :members:\n```\n" if is_class else "```\n"


def configuration() -> Iterator[str]:
    """One table per configuration class."""
    for name in defined(config):
        cls = getattr(config, name)
        if not dataclasses.is_dataclass(cls):
            continue
        yield f"## `{name}`\n\n{inspect.getdoc(cls)}\n"
        yield "| field | default | allowed | meaning |\n|---|---|---|---|"
        for field in dataclasses.fields(cls):
            cells = [f"`{field.name}`", _default(field), _allowed(field)]
            yield f"| {' | '.join(cells)} | {field.metadata['about']} |"
        yield ""


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f"`{field.default_factory()!r}` ({field.type})"
    if field.default is dataclasses.MISSING:
        return f"required ({field.type})"
    return f"`{field.default!r}` ({field.type})"


def _allowed(field: dataclasses.Field[Any]) -> str:
    limits = field.metadata
    if limits.get("choices"):
        return ", ".join(f"`{choice}`" for choice in limits["choices"])
    low, high = limits.get("low", -math.inf), limits.get("high", math.inf)
    lower = "> 0" if low == config.TINY else "" if low == -math.inf else f"≥ {low:g}"
    upper = "< 1" if high == 1 - config.TINY else "" if high == math.inf else f"≤ {high:g}"
    return ", ".join(filter(None, [lower, upper]))


def status() -> Iterator[str]:
    """One row per chapter, and the machines and versions behind the rows."""
    times = json.loads((ROOT / "book" / "run_times.json").read_text(encoding="utf-8"))
    places: list[dict[str, Any]] = []
    yield "| chapter | seconds that passed | seconds computed | it says | measured on |"
    yield "|---|--:|--:|--:|---|"
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if path.stem not in times:
            yield f"| [](../notebooks/{path.name}) | – | – | – | not yet measured |"
            continue
        entry = times[path.stem]
        place = {key: entry[key] for key in ("machine", "versions")}
        places += [] if place in places else [place]
        cells = [f"{entry['wall']:.1f}", f"{entry['cpu']:.1f}", f"{entry['takes']}"]
        letter = chr(ord("A") + places.index(place))
        yield f"| [](../notebooks/{path.name}) | {' | '.join(cells)} | {letter} |"
    for letter, place in zip("ABCDEFGHIJKL", places, strict=False):
        yield f"\n## {letter}: {place['machine']}\n\n| package | version |\n|---|---|"
        yield from (f"| {name} | {version} |" for name, version in place["versions"].items())


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "book/api": api,
    "book/configuration": configuration,
    "book/faults": faults,
    "book/results": results,
    "book/status": status,
    "book/welcome": numbers,
}


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the generated text where the page has the mark."""
    if docname in PAGES:
        source[0] = source[0].replace(MARK, "\n".join(PAGES[docname]()))


def outdated(app: Sphinx, env: BuildEnvironment, *changes: set[str]) -> list[str]:
    """These pages are read again in every build: what they are made from is no page of its own."""
    return [docname for docname in PAGES if docname in env.found_docs]


def escape_shapes(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Let ``(*, K, L)`` in a docstring be a shape, not the start of emphasis."""
    lines[:] = [re.sub(r"(?<![\w*])\*(?=\w*[,)])", r"\\*", line) for line in lines]


def drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Leave out the live-code scripts that Jupyter Book adds to every page.

    Nothing here uses them, they name a CDN, and being declared twice they log an error.
    """
    context["script_files"] = [s for s in context["script_files"] if "thebe" not in str(s).lower()]


def set_theme(app: Sphinx, config: Config) -> None:
    """What Jupyter Book has no key for."""
    # The bar above the page would only hold a second search field.
    config.html_theme_options["navbar_persistent"] = []
    # The reader's system decides; with no mode named, the theme logs an error on the first visit.
    config.html_context["default_mode"] = "auto"


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", set_theme)
    app.connect("env-get-outdated", outdated)
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", escape_shapes)
    app.connect("html-page-context", drop_thebe)
    return {"parallel_read_safe": True}
