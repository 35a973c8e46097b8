"""Loading a model for a verb."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.options import pick_device
from napari_vqldm.cli.targets import stem_of

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model


def load_model(name: str, device: str, reporter: Reporter) -> Model:
    """Load a model by name or file onto a device and say so on stderr."""
    from napari_vqldm.zoo import resolve

    path = resolve(name)  # before torch is imported: a wrong name is answered at once
    from napari_vqldm.checkpoint import load_checkpoint

    model = load_checkpoint(path, pick_device(device))
    card = model.header.card
    marks = "" if card.fully_gated else "; not through all quality gates, see `info`"
    reporter.note(
        f"model {card.name} ({card.family}, {sum(card.parameters.values()) / 1e6:.1f} M parameters) on "
        f"{model.device}{marks}"
    )
    return model


def model_stem(name: str) -> str:
    """Return a short name for files: the model's name, or the checkpoint's file name without its ending."""
    return stem_of(Path(name))
