"""What may be asked of a model, read from its configuration alone: no torch, so that a form can be built at once."""

from __future__ import annotations

import math

from napari_vqldm.config import ConditionConfig, ModelConfig, SimulationConfig
from napari_vqldm.errors import CheckpointError

ORGANISATION = "organisation"


def allowed_conditions(config: ModelConfig) -> dict[str, tuple[float, float] | tuple[str, ...]]:
    """Return what may be asked of a model: name to trained (low, high), and the trained organisations.

    Empty when nothing was known about the training volumes.
    """
    known = training_conditions(config)
    if known is None:
        return {}
    from napari_vqldm.simulate.optics import line_width_um  # brings scipy.special: only when ranges are wanted

    condition, simulation = known
    widths = [line_width_um(simulation.optics, factor)[0] for factor in simulation.psf_width_factor]
    ranges: dict[str, tuple[float, float] | tuple[str, ...]] = {
        "length_density_um_per_um3": simulation.length_density_um_per_um3,
        "persistence_length_um": simulation.persistence_length_um,
        "psf_width_um": (widths[0], widths[1]),
        **_voxel_sizes(simulation),
    }
    if unknown := [name for name in condition.names if name not in ranges]:
        raise CheckpointError(
            f"the model is conditioned on {unknown[0]!r}, which this version does not know: upgrade napari-vqldm"
        )
    allowed = {name: ranges[name] for name in condition.names}
    allowed[ORGANISATION] = tuple(n for n in condition.organisations if simulation.organisation.get(n, 0.0) > 0)
    return allowed


def voxel_size_conditions(config: ModelConfig) -> dict[str, tuple[float, float]]:
    """Return the trained (low, high) of the voxel sizes among `allowed_conditions`, um, without waiting for optics."""
    known = training_conditions(config)
    if known is None:
        return {}
    condition, simulation = known
    return {name: ends for name, ends in _voxel_sizes(simulation).items() if name in condition.names}


def middle_voxel_size(config: ModelConfig) -> dict[str, float]:
    """Return the middle of the trained voxel sizes as conditions, um, rounded to four digits."""
    ends = voxel_size_conditions(config)
    return {name: float(f"{math.sqrt(low * high):.4g}") for name, (low, high) in ends.items()}


def training_conditions(config: ModelConfig) -> tuple[ConditionConfig, SimulationConfig] | None:
    """Return condition and training distribution; None when the model saw volumes that nothing was known about."""
    condition = config.denoiser.condition if config.denoiser is not None else None
    if condition is None or config.simulation is None:
        return None
    return condition, config.simulation


def _voxel_sizes(simulation: SimulationConfig) -> dict[str, tuple[float, float]]:
    stretch = 1.0 + simulation.voxel_size_jitter
    z, _, xy = simulation.voxel_size_um
    return {"voxel_size_z_um": (z / stretch, z * stretch), "voxel_size_xy_um": (xy / stretch, xy * stretch)}
