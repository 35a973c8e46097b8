"""Train the feature extractor: ``python training/features.py --out DIR``. See `napari_vqldm.training.features`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# This file is called like the package that it starts: its own folder must not be searched for imports.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]


def run() -> int:
    from importlib.util import find_spec

    if find_spec("napari_vqldm") is None:  # not installed: take the clone that this file lies in
        sys.path.insert(0, str(HERE.parent / "src"))
    from napari_vqldm.training.features.run import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
