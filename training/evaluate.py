"""Evaluate a model or a folder: ``python training/evaluate.py MODEL|FOLDER --against SET --report OUT``.

The same as ``napari-vqldm evaluate``, also from a clone that is not installed.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def run() -> int:
    if find_spec("napari_vqldm") is None:  # not installed: take the clone that this file lies in
        sys.path.insert(0, str(PROJECT / "src"))
    try:
        from napari_vqldm.cli import run as command

        return command(["evaluate", *sys.argv[1:]])
    except ModuleNotFoundError as error:
        package = (error.name or "napari_vqldm").partition(".")[0]
        if package == "napari_vqldm":
            raise
        sys.stderr.write(f"error: evaluation needs the package {package}: pip install '{PROJECT}[train]'\n")
        return 2
    except KeyboardInterrupt:  # during the first imports
        return 130


if __name__ == "__main__":
    sys.exit(run())
