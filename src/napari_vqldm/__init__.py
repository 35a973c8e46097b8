"""Generate, reconstruct and control 3D microtubule volumes with latent diffusion.

The public names are loaded on first use, so that importing the package brings neither torch nor a GUI toolkit.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from napari_vqldm.files import read_volume, write_volume
    from napari_vqldm.generate import generate, generate_steps
    from napari_vqldm.interpolate import interpolate, interpolate_steps
    from napari_vqldm.reconstruct import (
        Latent,
        decode,
        decode_steps,
        encode,
        encode_steps,
        reconstruct,
        reconstruct_steps,
    )
    from napari_vqldm.simulation import simulate, simulate_steps
    from napari_vqldm.volume import Volume
    from napari_vqldm.zoo import load

_HOME = {
    "Latent": "reconstruct",
    "Volume": "volume",
    "decode": "reconstruct",
    "decode_steps": "reconstruct",
    "encode": "reconstruct",
    "encode_steps": "reconstruct",
    "generate": "generate",
    "generate_steps": "generate",
    "interpolate": "interpolate",
    "interpolate_steps": "interpolate",
    "load": "zoo",
    "read_volume": "files",
    "reconstruct": "reconstruct",
    "reconstruct_steps": "reconstruct",
    "simulate": "simulation",
    "simulate_steps": "simulation",
    "write_volume": "files",
}

__all__ = [
    "Latent",
    "Volume",
    "__version__",
    "decode",
    "decode_steps",
    "encode",
    "encode_steps",
    "generate",
    "generate_steps",
    "interpolate",
    "interpolate_steps",
    "load",
    "read_volume",
    "reconstruct",
    "reconstruct_steps",
    "simulate",
    "simulate_steps",
    "write_volume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Some verbs share the name of the module that holds them; the verb is what the package shows."""

    def __setattr__(self, name: str, value: object) -> None:
        # The import system binds every submodule to its package: `generate` would be a module or a function depending
        # on what was imported first. `from napari_vqldm.generate import ...` does not need that binding.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
