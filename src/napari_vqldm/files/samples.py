"""Stacks that come with the package: real ones, whose source and license `samples/ATTRIBUTION.md` names, and one that
a bundled model generated.
"""

from __future__ import annotations

from pathlib import Path

from napari_vqldm.errors import FileError

_FOLDER = Path(__file__).with_name("samples")
_GENERATED = _FOLDER / "generated_ldm.ome.tif"  # by tools/make_sample.py


def sample_names() -> tuple[str, ...]:
    """Names of the real stacks, which `sample_path` knows, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.tif") if path != _GENERATED))


def sample_path(name: str) -> Path:
    """Return the path of a bundled real stack.

    Raises
    ------
    FileError
        If ``name`` is unknown.
    """
    if name not in sample_names():
        raise FileError(f"no sample named {name!r}: expected one of {', '.join(sample_names())}")
    return _FOLDER / f"{name}.tif"


def generated_path() -> Path:
    """Return the path of a volume that the bundled model ``ldm`` generated; its record says how."""
    return _GENERATED
