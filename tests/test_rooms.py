"""The house rules: the README's map is true, imports only go down, and every room stays small."""

import ast
import re
from pathlib import Path

import pytest

LONGEST_ROOM = 350
GRAB_BAGS = {"common", "helpers", "misc", "tools", "util", "utils"}
ROW = re.compile(r"^\| (\d) \| `(\w+)` \| ([^|]+?) \|", re.MULTILINE)

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {path.stem: path for path in sorted((ROOT / "wmlib").glob("*.py"))}
MAP = {
    room: (int(floor), caption)
    for floor, room, caption in ROW.findall((ROOT / "README.md").read_text())
}


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "wmlib" if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "wmlib":
                room = rest.partition(".")[0]
                found.add(room if room in ROOMS else "__init__")
    return found


def test_the_map_shows_every_room_and_no_other() -> None:
    assert set(MAP) == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_the_map_has_the_caption_of_the_room(room: str) -> None:
    docstring = ast.get_docstring(ast.parse(ROOMS[room].read_text()))
    assert docstring, f"wmlib/{room}.py has no caption"
    assert docstring.splitlines()[0] == MAP[room][1]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_only_go_down(room: str) -> None:
    floor = MAP[room][0]
    for other in sorted(imported_rooms(ROOMS[room])):
        below = MAP[other][0]
        assert below < floor, f"{room} (floor {floor}) imports {other} (floor {below})"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_read_in_one_sitting(room: str) -> None:
    lines = len(ROOMS[room].read_text().splitlines())
    assert lines <= LONGEST_ROOM, f"wmlib/{room}.py has {lines} lines"


def test_no_room_is_a_grab_bag() -> None:
    assert not GRAB_BAGS & set(ROOMS)
