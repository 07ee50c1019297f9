"""Write the repository's address into everything that shows it: badges, buttons, install cells.

Usage: python book/address.py https://github.com/you/your-fork
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOWN_IN = {".cff", ".ipynb", ".md", ".py", ".toml", ".yml"}


def slug(url: str) -> str:
    """``owner/name`` of a GitHub address."""
    match = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?", url)
    if match is None:
        sys.exit(f"Not a GitHub address: {url!r}. Wanted: URL=https://github.com/owner/name")
    return match[1]


def main(url: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    old, new = slug(project["urls"]["Repository"]), slug(url)
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    for path in [ROOT / name for name in tracked if Path(name).suffix in SHOWN_IN]:
        text = path.read_text(encoding="utf-8")
        if old in text:
            path.write_text(text.replace(old, new), encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
