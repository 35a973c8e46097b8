"""Bundled models and how a name becomes a file: `load` takes a name or a path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_vqldm.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from napari_vqldm.checkpoint import Model

NAMES = ("ldm", "vq-ldm")
_WEIGHTS = Path(__file__).parent / "weights"


def available() -> dict[str, Path]:
    """Return the bundled models of this installation, name to file."""
    files = {name: _WEIGHTS / f"{name}.safetensors" for name in NAMES}
    return {name: path for name, path in files.items() if path.is_file()}


def resolve(name_or_path: str | Path) -> Path:
    """Return the checkpoint file that a name or a path stands for.

    Parameters
    ----------
    name_or_path : str or Path
        ``"ldm"``, ``"vq-ldm"``, or a ``.safetensors`` file. A name wins over a file of the same name.

    Returns
    -------
    Path
        An existing path; not yet checked to be a checkpoint.

    Raises
    ------
    CheckpointError
        If it is neither; the message names the choices.
    """
    bundled = available()
    choices = ", ".join(bundled) or "none is installed"
    name = str(name_or_path)
    if name in bundled:
        return bundled[name]
    path = Path(name_or_path).expanduser()
    if path.suffix not in ("", ".safetensors") and _is_volume_name(path):
        raise CheckpointError(
            f"{path}: a volume, not a model: expected a bundled name ({choices}) or a .safetensors checkpoint"
        )
    if path.exists():
        return path
    if name in NAMES:
        raise CheckpointError(
            f"the bundled model {name!r} is not part of this installation: reinstall napari-vqldm, "
            "or give a .safetensors checkpoint"
        )
    raise CheckpointError(f"no model {name!r}: expected a bundled name ({choices}) or an existing .safetensors file")


def _is_volume_name(path: Path) -> bool:
    """Tell whether a path ends like a file that a volume is read from."""
    from napari_vqldm.files import READABLE_SUFFIXES  # its readers are not wanted for a model

    return path.suffix.lower() in READABLE_SUFFIXES


def load(name_or_path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a bundled model by name, or any checkpoint by path.

    Parameters
    ----------
    name_or_path : str or Path
        See `resolve`.
    device : str or torch.device
        ``"cpu"``, ``"cuda"``, ...

    Returns
    -------
    Model
        Ready for `generate`, `reconstruct`, `encode`, `decode` and `interpolate`.

    Raises
    ------
    CheckpointError
        If there is no such model or its file is not a valid checkpoint.
    """
    from napari_vqldm.checkpoint import load_checkpoint  # brings torch: only when a model is wanted

    return load_checkpoint(resolve(name_or_path), device)
