"""Sample data of the File menu: simulated stacks, a real one, a generated one. No network."""

from __future__ import annotations

from napari_vqldm.plugin.layers.data import LayerData, layer_data

SEED = 1
GENERATED_STEPS = 8  # of the model's 40 or more: a first impression, and its name says so
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
    """Generate one volume of the bundled model's own size, 32 x 128 x 128 voxels, in 8 steps: seconds on a laptop."""
    from napari_vqldm.generate import generate
    from napari_vqldm.zoo import load

    (volume,) = generate(load("ldm"), 1, seed=SEED, steps=GENERATED_STEPS)
    return [layer_data(volume, f"Generated microtubules (ldm, {GENERATED_STEPS} steps)")]


def _simulated(config: str, title: str) -> list[LayerData]:
    """The recording of the first volume of a tier or preset."""
    from napari_vqldm.simulation import simulate

    (result,) = simulate(1, SEED, config)
    return [layer_data(result.noisy or result.clean, title)]
