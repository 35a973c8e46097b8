"""``python -m napari_vqldm.training``, ``python training/train.py`` and ``napari-vqldm train``: one entry."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from napari_vqldm.config import read_toml
from napari_vqldm.errors import VqldmError
from napari_vqldm.training.config import STAGES, parse_setting, preset_paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Train from the command line.

    Returns
    -------
    int
        0 when done or stopped by SIGTERM with everything saved, 130 when stopped by Ctrl-C, 2 on an error of the user's
        making (one line on stderr).
    """
    try:
        return _run(arguments)
    except KeyboardInterrupt:  # while importing, or after everything was saved: a run answers Ctrl-C itself
        sys.stderr.write("interrupted; run the same command again\n")
        return 130


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        from napari_vqldm.training.run import run_training
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("lightning"):
            raise
        return _fail("training needs lightning-fabric: pip install 'napari-vqldm[train]'")
    from napari_vqldm.training.interrupt import Interrupted

    try:
        run_training(
            options.config,
            options.out,
            stages=options.stage,
            fresh=options.fresh,
            dry_run=options.dry_run,
            cache=options.cache,
            changes=[*map(read_toml, options.override), *map(parse_setting, options.set)],
        )
    except VqldmError as error:
        return _fail(str(error))
    except Interrupted as stop:
        Console(stderr=True).print(str(stop), markup=False, highlight=False, soft_wrap=True)
        return stop.exit_code
    return 0


def _fail(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return 2


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the words in one line and leave with 2."""
        self.exit(_fail(f"{message} ({self.prog} --help shows the options)"))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="napari-vqldm train",
        description="Train a model. The same command again resumes.",
        epilog=f"presets: {', '.join(preset_paths())}",
    )
    parser.add_argument("config", metavar="CONFIG|PRESET", help="TOML file or name of a preset")
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--stage", action="append", choices=STAGES, help="run only this stage (may be repeated)")
    parser.add_argument(
        "--override",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="TOML file whose values replace those of CONFIG (may be repeated)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value that replaces that of CONFIG, such as autoencoder.batch_size=8 (may be repeated)",
    )
    parser.add_argument("--fresh", action="store_true", help="forget these stages and the later ones, start again")
    parser.add_argument("--dry-run", action="store_true", help="check the configuration and print it, write nothing")
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="where simulated volumes are kept (default: RUN/cache)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
