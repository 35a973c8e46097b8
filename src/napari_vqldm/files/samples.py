"""Real stacks that come with the package; `samples/ATTRIBUTION.md` names their source and license."""

from __future__ import annotations

from pathlib import Path

from napari_vqldm.errors import FileError

_FOLDER = Path(__file__).with_name("samples")


def sample_names() -> tuple[str, ...]:
    """Names that `sample_path` knows, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.tif")))


def sample_path(name: str) -> Path:
    """Return the path of a bundled stack.

    Raises
    ------
    FileError
        If ``name`` is unknown.
    """
    if name not in sample_names():
        raise FileError(f"no sample named {name!r}: expected one of {', '.join(sample_names())}")
    return _FOLDER / f"{name}.tif"
