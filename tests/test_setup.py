"""The set-up files agree with each other, and the repository stays small."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

LARGEST_TREE = 64 * 2**20


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins(root: Path) -> dict[str, str]:
    lines = (root / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def requirements(project: dict) -> list[Requirement]:
    extras = project["optional-dependencies"].values()
    named = [*project["dependencies"], *(name for extra in extras for name in extra)]
    return [r for r in map(Requirement, named) if r.name != project["name"]]


def test_constraints_pin_everything_pyproject_names(project: dict, pins: dict[str, str]) -> None:
    for requirement in requirements(project):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} does not allow the pin {pin}"


def test_torch_is_pinned_to_the_tested_release(pins: dict[str, str]) -> None:
    assert pins["torch"] == "2.13.0"


def test_conda_installs_what_make_installs(root: Path, project: dict) -> None:
    environment = yaml.safe_load((root / "environment.yml").read_text())
    python = next(d for d in environment["dependencies"] if str(d).startswith("python="))
    assert SpecifierSet(project["requires-python"]).contains(python.removeprefix("python="))
    (from_pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    constraint, editable = from_pip
    assert constraint == "--constraint constraints.txt"
    extras = re.search(r'\$\(INSTALL\) "\.(\[.*\])"\n\s+@touch \$@\n\n\$\(BIN\)', makefile(root))
    assert extras, "the Makefile's line that installs for readers has changed its form"
    assert editable == f"--editable .{extras[1]}"


def test_the_readme_names_every_target_that_make_has(root: Path) -> None:
    readme = (root / "README.md").read_text()
    for target in ["book", "lab", "test", "check", "colab"]:
        assert re.search(rf"^{target}:", makefile(root), re.MULTILINE)
        assert f"make {target}" in readme


def steps(root: Path, workflow: str, job: str) -> list[str]:
    """What a job runs and uses, in order."""
    jobs = yaml.safe_load((root / ".github" / "workflows" / workflow).read_text())["jobs"]
    return [step.get("run") or step["uses"].partition("@")[0] for step in jobs[job]["steps"]]


def test_ci_runs_everything(root: Path) -> None:
    assert ".ci/run" in steps(root, "ci.yml", "test")
    assert "make colab" in steps(root, "ci.yml", "colab")
    assert re.search(r"^make test\b", (root / ".ci" / "run").read_text(), re.MULTILINE)


def test_a_fork_publishes_the_book_under_its_own_address(root: Path) -> None:
    own, build, upload, deploy = (
        "make address URL=https://github.com/${{ github.repository }}",
        "make book",
        "actions/upload-pages-artifact",
        "actions/deploy-pages",
    )
    found = steps(root, "pages.yml", "publish")
    assert [step for step in found if step in (own, build, upload, deploy)] == [
        own, build, upload, deploy,
    ]  # fmt: skip


def makefile(root: Path) -> str:
    return (root / "Makefile").read_text()


def tracked(root: Path) -> list[Path]:
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=root, text=True)
    return [root / name for name in names.split("\0") if name and (root / name).is_file()]


def test_the_tracked_tree_is_small(root: Path) -> None:
    sizes = {path: path.stat().st_size for path in tracked(root)}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]
    assert sum(sizes.values()) < LARGEST_TREE, f"the largest files: {largest}"


def test_one_command_changes_the_address_everywhere(root: Path, tmp_path: Path) -> None:
    texts = {".cff", ".ipynb", ".md", ".py", ".toml", ".yml"}
    copies = []
    for path in tracked(root):
        if path.suffix in texts and path.parent != root / "tests":
            copies.append(tmp_path / path.relative_to(root))
            copies[-1].parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copies[-1])
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    old = tomllib.loads((root / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    command = [sys.executable, "book/address.py", "https://github.com/someone/their-fork.git"]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    slug = old.removeprefix("https://github.com/")
    assert not [path for path in copies if slug in path.read_text()]
    assert "https://github.com/someone/their-fork\n" in (tmp_path / "_config.yml").read_text()


def test_an_address_that_is_none_is_refused(root: Path) -> None:
    command = [sys.executable, "book/address.py", "somewhere"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Not a GitHub address: 'somewhere'" in done.stderr
