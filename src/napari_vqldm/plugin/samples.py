"""Sample data of the File menu: simulated stacks, a real one, a generated one. No network, and nothing that takes long:
napari makes them on the thread that draws.
"""

from __future__ import annotations

from napari_vqldm.plugin.layers.data import LayerData, layer_data

SEED = 1
REAL_STACK = "spindle_morph_volume00"


def sparse() -> list[LayerData]:
    """Simulate a recording of few filaments, 32 x 128 x 128 voxels."""
    return _simulated("sparse", "Simulated microtubules, sparse")


def standard() -> list[LayerData]:
    """Simulate a recording of the standard tier, 32 x 128 x 128 voxels."""
    return _simulated("standard", "Simulated microtubules, standard")


def dense() -> list[LayerData]:
    """Simulate a crowded recording with few photons, deep in the specimen: the tier called hard."""
    return _simulated("hard", "Simulated microtubules, dense")


def spindle() -> list[LayerData]:
    """Simulate a mitotic spindle as a confocal microscope shows it, 24 x 64 x 64 voxels."""
    return _simulated("spindle", "Simulated mitotic spindle")


def real() -> list[LayerData]:
    """Open a public stack of a mitotic spindle; ``files/samples/ATTRIBUTION.md`` names source and license."""
    from napari_vqldm.files import read_volume
    from napari_vqldm.files.samples import sample_path

    return [layer_data(read_volume(sample_path(REAL_STACK)), "Real mitotic spindle")]


def generated() -> list[LayerData]:
    """Open a volume that the bundled model ``ldm`` generated, 32 x 88 x 88 voxels; its record computes it again."""
    from napari_vqldm.files import read_volume
    from napari_vqldm.files.samples import generated_path

    return [layer_data(read_volume(generated_path()), "Generated microtubules (ldm)")]


def _simulated(config: str, title: str) -> list[LayerData]:
    """The recording of the first volume of a tier or preset."""
    from napari_vqldm.simulation import simulate

    (result,) = simulate(1, SEED, config)
    return [layer_data(result.noisy or result.clean, title)]
