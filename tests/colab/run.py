"""Run chapters as Colab would: an environment without wmlib, and a first cell that installs it.

    python tests/colab/run.py          # every chapter
    python tests/colab/run.py 00 03    # these

The repository's address leads to this checkout, so what is tried is its last commit.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLACE = ROOT / "_build" / "colab"
PYTHON = PLACE / "env" / "bin" / "python"
CONTENT = PLACE / "content"  # where notebooks run, with no repository around them
VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
# Too old in Colab; a newer one takes no restart, for nothing imports it before the first cell.
UPGRADED = {"gymnasium"}


def ask(*arguments: str) -> str:
    """What the stand-in's Python prints."""
    return subprocess.check_output([PYTHON, *arguments], cwd=CONTENT, env=environment(), text=True)


def environment() -> dict[str, str]:
    """Variables under which pip and the kernel run: this address is found on this disk."""
    address = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    theirs = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return theirs | {
        "PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}",
        "JUPYTER_PATH": str(PLACE / "jupyter"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": address,
    }


def build() -> None:
    """A fresh environment with what Colab has, a module google.colab, and a kernel in it."""
    shutil.rmtree(PLACE, ignore_errors=True)
    CONTENT.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", PLACE / "env"], check=True)
    ask("-m", "pip", "install", "--quiet", "--requirement", str(HERE / "requirements.txt"))
    packages = ask("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    shutil.copytree(HERE / "google", Path(packages) / "google", dirs_exist_ok=True)
    kernel = PLACE / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True)
    at_start = "--InteractiveShellApp.exec_lines=import google.colab"
    command = [str(PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}", at_start]
    spec = {"argv": command, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))


def versions() -> dict[str, str]:
    """Every package of the stand-in."""
    found = json.loads(ask("-m", "pip", "list", "--format", "json"))
    return {package["name"]: package["version"] for package in found}


def run(path: Path) -> None:
    """Run a chapter, and see that each of its widgets can be shown."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.pop("outputs", None)
    place = {"metadata": {"path": str(CONTENT)}}
    NotebookClient(notebook, timeout=600, kernel_name="colab", resources=place).execute()
    states = notebook.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    for model in shown(notebook):
        if model not in states:
            sys.exit(f"{path.name}: a widget was shown, but nothing of it was saved.")


def shown(notebook: Any) -> list[str]:
    """The models of all widgets that cells display."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [o.data[VIEW]["model_id"] for o in outputs if VIEW in o.get("data", {})]


def main(numbers: list[str]) -> None:
    chapters = sorted((ROOT / "notebooks").glob("*.ipynb"))
    chosen = [path for path in chapters if not numbers or path.stem[:2] in numbers]
    if not chosen or len(chosen) < len(numbers):
        there = " ".join(path.stem[:2] for path in chapters)
        sys.exit(f"No chapter for one of {' '.join(numbers)}; there are {there}.")
    build()
    os.environ.pop("PYTHONPATH", None)  # the kernel's variables are this process's
    os.environ.update(environment())
    before = versions()
    if "wmlib" in before:
        sys.exit("wmlib is in the stand-in before any cell has installed it.")
    for path in chosen:
        start = time.monotonic()
        run(path)
        print(f"{path.stem}: {time.monotonic() - start:.0f} s", flush=True)
    after = versions()
    changed = [
        name
        for name, version in before.items()
        if after.get(name) != version and name not in UPGRADED
    ]
    if "wmlib" not in after or changed:
        sys.exit(f"wmlib: {after.get('wmlib')}. Changed, which takes a restart: {changed}")
    print("Installed what was missing:", ", ".join(sorted(after.keys() - before.keys())))


if __name__ == "__main__":
    main(sys.argv[1:])
