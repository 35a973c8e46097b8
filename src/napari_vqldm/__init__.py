"""Generate, reconstruct and control 3D microtubule volumes with latent diffusion.

The public names are loaded on first use, so that importing the package brings neither torch nor a GUI toolkit.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from napari_vqldm.compare import compare, residual
    from napari_vqldm.crop import crop
    from napari_vqldm.estimate import (
        Estimate,
        estimate_camera,
        estimate_encoding,
        estimate_generation,
        estimate_interpolation,
        estimate_reconstruction,
        estimate_uncertainty,
    )
    from napari_vqldm.files import read_volume, write_volume
    from napari_vqldm.generate import generate, generate_steps
    from napari_vqldm.inside.atoms import atom
    from napari_vqldm.inside.codes import code_map
    from napari_vqldm.interpolate import blend, changed_codes, interpolate, interpolate_steps
    from napari_vqldm.measure import compare_measurements, measure, measure_steps
    from napari_vqldm.preview import LinearDecoder, fit_linear_decoder
    from napari_vqldm.reconstruct import (
        Latent,
        decode,
        decode_steps,
        encode,
        encode_steps,
        reconstruct,
        reconstruct_steps,
    )
    from napari_vqldm.record import record
    from napari_vqldm.reproduce import estimate_reproduction, reproduce, reproduce_steps
    from napari_vqldm.self_test import SelfTest, self_test, self_test_steps
    from napari_vqldm.simulation import simulate, simulate_steps
    from napari_vqldm.uncertainty import uncertainty, uncertainty_steps
    from napari_vqldm.volume import Volume
    from napari_vqldm.zoo import load

_HOME = {
    "Estimate": "estimate",
    "Latent": "reconstruct",
    "LinearDecoder": "preview",
    "SelfTest": "self_test",
    "Volume": "volume",
    "atom": "inside.atoms",
    "blend": "interpolate",
    "changed_codes": "interpolate",
    "code_map": "inside.codes",
    "compare": "compare",
    "compare_measurements": "measure",
    "crop": "crop",
    "decode": "reconstruct",
    "decode_steps": "reconstruct",
    "encode": "reconstruct",
    "encode_steps": "reconstruct",
    "estimate_camera": "estimate",
    "estimate_encoding": "estimate",
    "estimate_generation": "estimate",
    "estimate_interpolation": "estimate",
    "estimate_reconstruction": "estimate",
    "estimate_reproduction": "reproduce",
    "estimate_uncertainty": "estimate",
    "fit_linear_decoder": "preview",
    "generate": "generate",
    "generate_steps": "generate",
    "interpolate": "interpolate",
    "interpolate_steps": "interpolate",
    "load": "zoo",
    "measure": "measure",
    "measure_steps": "measure",
    "read_volume": "files",
    "reconstruct": "reconstruct",
    "reconstruct_steps": "reconstruct",
    "record": "record",
    "reproduce": "reproduce",
    "reproduce_steps": "reproduce",
    "residual": "compare",
    "self_test": "self_test",
    "self_test_steps": "self_test",
    "simulate": "simulation",
    "simulate_steps": "simulation",
    "uncertainty": "uncertainty",
    "uncertainty_steps": "uncertainty",
    "write_volume": "files",
}

__all__ = [
    "Estimate",
    "Latent",
    "LinearDecoder",
    "SelfTest",
    "Volume",
    "__version__",
    "atom",
    "blend",
    "changed_codes",
    "code_map",
    "compare",
    "compare_measurements",
    "crop",
    "decode",
    "decode_steps",
    "encode",
    "encode_steps",
    "estimate_camera",
    "estimate_encoding",
    "estimate_generation",
    "estimate_interpolation",
    "estimate_reconstruction",
    "estimate_reproduction",
    "estimate_uncertainty",
    "fit_linear_decoder",
    "generate",
    "generate_steps",
    "interpolate",
    "interpolate_steps",
    "load",
    "measure",
    "measure_steps",
    "read_volume",
    "reconstruct",
    "reconstruct_steps",
    "record",
    "reproduce",
    "reproduce_steps",
    "residual",
    "self_test",
    "self_test_steps",
    "simulate",
    "simulate_steps",
    "uncertainty",
    "uncertainty_steps",
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
