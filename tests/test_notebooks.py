"""The chapters as they are committed: executed, described, short, and the same all over.

Whether they still give the outputs they show is tested by ``pytest --nbval notebooks``.
"""

import re
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

INSTALL = f"""\
# Installs what is missing, in Colab for instance; elsewhere there is nothing to do.
import importlib.util

if importlib.util.find_spec("wmlib") is None:
    !pip install --quiet "git+{REPOSITORY}"
"""
IGNORED = re.compile(r"^\s*#\s*(NBVAL_IGNORE_OUTPUT|NBVAL_SKIP)\b:?\s*(.*)$", re.MULTILINE)
MACHINE = re.compile(r"/(home|root|tmp|work|Users)/|0x[0-9a-f]{6,}|[A-Z]:\\\\Users")
BARE = re.compile(r"\b(True|False)\b")
WIDGET = "application/vnd.jupyter.widget-view+json"
LONGEST_CELL, USUAL_CELL = 25, 12  # lines
LARGEST = 2_000_000  # bytes

pytestmark = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[Any]:
    return [cell for cell in read(path).cells if cell.cell_type == "code" and cell.source.strip()]


def prose(path: Path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


def tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def shown(cell: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """(MIME type, content, metadata) of everything that a cell displays."""
    return [
        (kind, content, output.metadata.get(kind, {}))
        for output in cell.outputs
        for kind, content in output.get("data", {}).items()
    ]


def text(cell: Any) -> str:
    """All that a cell prints or answers."""
    printed = [output.get("text", "") for output in cell.outputs]
    return "\n".join(printed + [str(c) for kind, c, _ in shown(cell) if kind.startswith("text/")])


def test_it_is_a_valid_notebook(path: Path) -> None:
    nbformat.validate(read(path))
    assert read(path).metadata.kernelspec.name == "python3"
    # Without it, the book's build stumbles over the first cell's "!pip".
    assert read(path).metadata.language_info.pygments_lexer == "ipython3", "run it again"


def test_every_cell_was_executed_in_order(path: Path) -> None:
    counts = [cell.execution_count for cell in code(path)]
    assert counts == list(range(1, len(counts) + 1))


def test_errors_are_meant(path: Path) -> None:
    for cell in code(path):
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert failed == ("raises-exception" in tags(cell)), cell.source


def test_nothing_was_printed_as_an_error_or_by_a_progress_bar(path: Path) -> None:
    for cell in code(path):
        assert not [o.text for o in cell.outputs if o.get("name") == "stderr"], cell.source


def test_few_cells_are_left_out_of_the_comparison_and_they_say_why(path: Path) -> None:
    cells = code(path)
    ignored = [match for cell in cells for match in IGNORED.finditer(cell.source)]
    assert len(ignored) <= 0.05 * len(cells)
    assert all(len(match[2]) > 10 for match in ignored), "NBVAL_…: and the reason"
    hidden = {"nbval-skip", "nbval-ignore-output", "nbval-raises-exception"}
    assert not [cell.source for cell in cells if tags(cell) & hidden], "a tag gives no reason"


def test_outputs_are_figures_and_no_bare_true_or_false(path: Path) -> None:
    """Whether a comparison holds is the assertion's business; a reader wants to see the values."""
    assert not [cell.source for cell in code(path) if BARE.search(text(cell))]


def test_most_cells_show_or_assert_something(path: Path) -> None:
    cells = code(path)[1:]
    assert len(cells) >= 5
    silent = [cell for cell in cells if not cell.outputs and "assert" not in cell.source]
    assert len(silent) <= len(cells) / 4, [cell.source for cell in silent]
    assert any(re.search(r"^\s*assert\b", cell.source, re.MULTILINE) for cell in cells)


def test_every_picture_has_words(path: Path) -> None:
    for cell in code(path):
        for kind, content, said in shown(cell):
            if kind.startswith("image/"):
                assert len(said.get("alt", "")) > 20, f"no alt text: {cell.source}"
            if kind == "text/html":
                assert_described(content)
    for source in prose(path):
        assert_described(source)
        assert "" not in re.findall(r"!\[([^\]]*)\]\(", source)


def assert_described(html: str) -> None:
    for image in re.findall(r"<img\b[^>]*>", html):
        assert re.search(r"""\balt=(["'])[^"']{3,}""", image), image[:200]


def test_pictures_in_the_prose_are_part_of_the_notebook(path: Path) -> None:
    """Neither Colab nor JupyterLab, opened on the notebook, sees the files around it."""
    for source in prose(path):
        sources = re.findall(r"!\[[^\]]*\]\(([^)]*)", source)
        sources += re.findall(r"<img\b[^>]*\bsrc=[\"']([^\"']*)", source)
        assert not [s[:80] for s in sources if not s.startswith("data:image/")]


def test_widgets_are_there_without_a_kernel(path: Path) -> None:
    kind = "application/vnd.jupyter.widget-view+json"
    models = {
        content["model_id"]
        for cell in code(path)
        for mime, content, _ in shown(cell)
        if mime == kind
    }
    widgets = read(path).metadata.get("widgets", {})
    state = widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    assert models <= set(state)


def test_it_is_small(path: Path) -> None:
    assert path.stat().st_size < LARGEST


def test_cells_are_short(path: Path) -> None:
    lengths = [len(cell.source.splitlines()) for cell in code(path)]
    assert max(lengths) <= LONGEST_CELL
    assert median(lengths) <= USUAL_CELL


def test_outputs_name_no_place_on_the_machine(path: Path) -> None:
    for cell in code(path):
        found = MACHINE.search(text(cell))
        assert found is None, f"{found} in the output of: {cell.source}"


def test_colab_opens_it_and_the_first_cell_installs_what_is_missing(path: Path) -> None:
    slug = REPOSITORY.removeprefix("https://github.com/")
    address = f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/{path.name}"
    assert address in read(path).cells[0].source
    assert code(path)[0].source.rstrip() == INSTALL.rstrip()
    assert "remove-cell" in tags(code(path)[0]), "in the book there is nothing to install"


def test_it_begins_with_what_a_reader_wants_to_know(path: Path) -> None:
    first = read(path).cells[0].source
    assert re.match(rf"# {path.stem[:2]} · .+\?$", first, re.MULTILINE)
    for part in ("**You will be able to**", "**You need**", "**It takes**"):
        assert part in first, part


def test_it_asks_before_it_answers(path: Path) -> None:
    cells = read(path).cells
    asked = [c.cell_type == "markdown" and "**Guess first.**" in c.source for c in cells]
    questions = [i for i, asks in enumerate(asked) if asks]
    assert len(questions) >= 2
    assert all(cells[i + 1].cell_type == "code" for i in questions), "the answer is the next cell"


def test_the_answer_to_a_guess_is_folded_until_asked_for(path: Path) -> None:
    """In the book; in JupyterLab and Colab one runs the cell when one has guessed."""
    cells = read(path).cells
    for i, cell in enumerate(cells):
        if cell.cell_type == "markdown" and "**Guess first.**" in cell.source:
            answer = next(c for c in cells[i + 1 :] if c.cell_type == "code" and c.outputs)
            if any(WIDGET in output.get("data", {}) for output in answer.outputs):
                continue  # it says nothing until one moves it
            assert tags(answer) & {"hide-output", "hide-cell"}, answer.source
            assert answer.metadata.mystnb.code_prompt_show == "Show the answer", answer.source


def test_exercises_have_hidden_solutions_that_run(path: Path) -> None:
    exercises = re.findall(r"^### Exercise (\d)\b", "\n".join(prose(path)), re.MULTILINE)
    solutions = [cell for cell in code(path) if "solution" in tags(cell)]
    assert 2 <= len(exercises) <= 4
    assert exercises == [str(i + 1) for i in range(len(solutions))]
    for cell in solutions:
        assert "hide-cell" in tags(cell)  # in the book
        assert cell.metadata.jupyter == {"source_hidden": True, "outputs_hidden": True}
        assert cell.metadata.cellView == "form"  # in Colab
        assert cell.source.startswith("# @title Solution")
        assert "assert" in cell.source


def test_it_ends_with_the_reader_saying_it_back(path: Path) -> None:
    assert any(source.startswith("## Say it back") for source in prose(path)[-3:])
