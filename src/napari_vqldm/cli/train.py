"""`train`: the same entry as ``python -m napari_vqldm.training`` and ``training/train.py``."""

from __future__ import annotations

import typer

# Options belong to the training engine, --help among them.
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def train(context: typer.Context) -> None:
    """Train a model: CONFIG.toml|PRESET --out RUN [--stage ...] [--fresh] [--dry-run]; the same command resumes."""
    from napari_vqldm.training.__main__ import main

    raise SystemExit(main(context.args))  # it has said all there is to say
