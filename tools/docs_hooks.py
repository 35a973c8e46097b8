"""Hooks of mkdocs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

MEASURED = "bundled.md"  # written by benchmarks/render.py


def on_config(config: Any) -> Any:
    """Leave the page of measured scores out of the navigation until it is written."""
    if not (Path(config["docs_dir"]) / MEASURED).is_file():
        config["nav"] = [entry for entry in config["nav"] if MEASURED not in entry.values()]
    return config
