"""The house rules: the README's map is true, imports only go down, and the house stays small."""

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wmlib
from wmlib.config import WMControllerConfig, WMMDNRNNConfig, WMVAEConfig

MOST_ROOMS, LONGEST_ROOM, MOST_LINES, MOST_FIELDS = 28, 350, 4500, 60
GROUPS = ["The paper", "The data", "Learning", "Acting", "Judging", "The door"]
GRAB_BAGS = {"common", "helpers", "misc", "tools", "util", "utils"}
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+?) \|", re.MULTILINE)

ROOT = Path(__file__).resolve().parent.parent
CORE = {path.stem: path for path in sorted((ROOT / "wmlib").glob("*.py"))}
FAST = sorted((ROOT / "wmlib" / "fast").glob("*.py"))
SHOW = sorted((ROOT / "wmlib" / "show").glob("*.py"))
HOUSE = (ROOT / "README.md").read_text(encoding="utf-8").partition("## The house")[2]
HOUSE = HOUSE.partition("\n## ")[0]
# Every way from the core into wmlib.fast: the room here, the room there.
DOORS = {
    ("datasets", "ahead"),
    ("devices", "models"),
    ("envs", "car_racing"),
    ("pipeline", "ray"),
    ("training", "memory"),
    ("vector_envs", "envpool"),
    ("vector_envs", "processes"),
}


def group_of_rooms() -> dict[str, list[tuple[str, str]]]:
    """The map: of each group, its rooms and their captions, in the README's order."""
    _, *parts = re.split(r"^\*\*(.+?)\*\*", HOUSE, flags=re.MULTILINE)
    return {name: ROW.findall(rows) for name, rows in zip(parts[::2], parts[1::2], strict=True)}


MAP = {room: caption for rooms in group_of_rooms().values() for room, caption in rooms}


def imports(path: Path) -> set[str]:
    """What a file imports of wmlib, wherever the import stands: rooms, ``show.x``, ``fast.x``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, *rest = name.split(".")
            if package == "wmlib":
                inner = rest[:1] and rest[0] in ("fast", "show")
                found.add(".".join(rest[:2]) if inner else (rest or ["__init__"])[0])
    return found


def floor(room: str) -> int:
    """How many rooms lie below one another under this one; an endless climb is a circle."""
    below = {other for other in imports(CORE[room]) if other in CORE}
    return 1 + max(map(floor, below), default=-1)


def test_the_house_is_small() -> None:
    lines = {
        room: len(path.read_text(encoding="utf-8").splitlines()) for room, path in CORE.items()
    }
    assert len(lines) <= MOST_ROOMS, f"{len(lines)} rooms"
    assert max(lines.values()) <= LONGEST_ROOM, max(lines.items(), key=lambda pair: pair[1])
    assert sum(lines.values()) <= MOST_LINES, f"{sum(lines.values())} lines"


def test_the_knobs_are_few() -> None:
    configs = (WMVAEConfig, WMMDNRNNConfig, WMControllerConfig)
    fields = [field.name for config in configs for field in dataclasses.fields(config)]
    assert len(fields) <= MOST_FIELDS, f"{len(fields)} fields"


def test_the_map_has_six_groups_and_every_room_once() -> None:
    groups = group_of_rooms()
    assert list(groups) == GROUPS
    rooms = [room for rows in groups.values() for room, _ in rows]
    assert sorted(rooms) == sorted(CORE)
    paper = [room for room, _ in groups["The paper"]]
    assert paper == ["vae", "mixture", "mdrnn", "controller", "search"]


def test_the_readme_begins_with_the_papers_five_files() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("![")[0]
    told = re.findall(r"^\| \[(\w+)\]\((.+?)\) \| (.+?) \|", text, re.MULTILINE)
    paper = group_of_rooms()["The paper"]
    assert told == [(room, f"wmlib/{room}.py", caption) for room, caption in paper]
    lines = sum(len(CORE[room].read_text(encoding="utf-8").splitlines()) for room, _ in paper)
    said = re.search(r"some (\d+) lines", text)
    assert said
    assert abs(lines - int(said[1])) <= 25


def test_the_front_door_has_the_groups_in_the_same_order() -> None:
    source = CORE["__init__"].with_suffix(".pyi").read_text(encoding="utf-8")
    headings = [line for line in re.findall(r"^# (.+)$", source, re.MULTILINE) if line in GROUPS]
    assert headings == GROUPS[:-1]  # the door is where one stands
    order = re.findall(r"^from wmlib\.(\w+) import", source, re.MULTILINE)
    listed = [room for room in MAP if room in order]
    assert list(dict.fromkeys(order)) == listed
    assert all(hasattr(wmlib, name) for name in wmlib.__all__)
    tree = ast.parse(source)
    (stated,) = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    assert ast.literal_eval(stated) == wmlib.__all__  # what type checkers are told


def test_the_front_door_brings_torch_in_with_the_first_name() -> None:
    """Not before: Ctrl-C in the first seconds of the command line is heard by its own code."""
    code = "import sys, wmlib; print('torch' in sys.modules); wmlib.vae; wmlib.ConvVAE; "
    code += "print('torch' in sys.modules, wmlib.evaluate.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "evaluate"]
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        wmlib.nonsense  # noqa: B018


@pytest.mark.parametrize("room", CORE)
def test_the_map_has_the_caption_of_the_room(room: str) -> None:
    docstring = ast.get_docstring(ast.parse(CORE[room].read_text(encoding="utf-8")))
    assert docstring, f"wmlib/{room}.py has no caption"
    assert docstring.splitlines()[0] == MAP[room]


@pytest.mark.parametrize("room", CORE)
def test_imports_only_go_down(room: str) -> None:
    try:
        floor(room)
    except RecursionError:
        pytest.fail(f"{room} comes back to itself by its imports")


def test_the_core_imports_neither_show_nor_fast() -> None:
    for room, path in CORE.items():
        assert not {name for name in imports(path) if "." in name}, room


def test_the_ways_into_fast_are_these() -> None:
    call = re.compile(r"\bfaster\(\"(\w+)\"\)")
    doors = {
        (room, there)
        for room, path in CORE.items()
        for there in call.findall(path.read_text(encoding="utf-8"))
    }
    assert doors == DOORS
    assert {there for _, there in DOORS} <= {path.stem for path in FAST}


def test_fast_does_not_import_show() -> None:
    for path in FAST:
        assert not {name for name in imports(path) if name.startswith("show")}, path


def test_no_room_is_a_grab_bag() -> None:
    assert not GRAB_BAGS & {path.stem for path in [*CORE.values(), *FAST, *SHOW]}


BLOCKED = """
import sys
sys.modules["wmlib.fast"] = None
import numpy as np, torch, wmlib
from wmlib.vector_envs import VectorImageEnv
world = wmlib.load_pretrained()
rollout = world.rollouts("agent")[0]
assert type(world.vae.decoder.deconv2) is torch.nn.ConvTranspose2d
envs = wmlib.make_vector_env("CarRacing-v3", 2)
assert type(envs) is VectorImageEnv and envs.backend == "gymnasium"
envs.close()
agent = world.agent(device="cpu")
dreams = wmlib.DreamEvaluator(agent, [rollout], time_limit=20)
flat = wmlib.flatten_parameters(world.controller.parameters())
print(float(dreams(flat[None], [0, 1]).returns.mean()))
print(wmlib.evaluate(agent, episodes=1, time_limit=10)["mean"])
"""


def test_without_fast_the_same_numbers_come_slower() -> None:
    """`make plain` runs the whole suite so; here the agent acts and dreams with the door shut."""
    shut = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True)
    assert shut.returncode == 0, shut.stderr
    opened = BLOCKED.partition("import numpy")[2]
    opened = "import numpy" + "\n".join(
        line for line in opened.splitlines() if not line.startswith(("assert", "envs"))
    )
    open_ = subprocess.run([sys.executable, "-c", opened], capture_output=True, text=True)
    assert open_.returncode == 0, open_.stderr
    slow, quick = ([float(x) for x in run.stdout.split()[-2:]] for run in (shut, open_))
    assert slow == pytest.approx(quick, rel=0.05)  # bf16 in the fused cell
