"""Put V and M of the shipped weights where the search for C expects them.

``python runs/restore.py`` in a fresh clone; then the command of ``runs/README.md`` goes on. They
are the same numbers, fp16 here and there, and are kept once.
"""

from pathlib import Path

import wmlib
from wmlib.checkpoints import save_checkpoint

FOLDER = Path(__file__).parent / "carracing-v3"


def main() -> None:
    world = wmlib.load_pretrained("carracing-v3")
    for name, model in {"vae": world.vae, "mdrnn": world.mdrnn}.items():
        path = FOLDER / name / "best.tar"
        if not path.exists():
            state = {key: value.half() for key, value in model.state_dict().items()}
            save_checkpoint(path, {"state_dict": state})
            print(f"{path} is written")


if __name__ == "__main__":
    main()
