"""The verb `simulate`: microtubule volumes with exact truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_vqldm.config import CameraConfig, SimulationConfig, read_toml, validate
from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import ConfigError
from napari_vqldm.files.provenance import make_provenance
from napari_vqldm.simulate import SampleParameters, Simulator, label_filaments, render_camera, tier
from napari_vqldm.simulate.draws import CAMERA, check_seed, integer_seed
from napari_vqldm.simulate.optics import line_width_um
from napari_vqldm.simulate.presets import PRESETS, preset
from napari_vqldm.volume import Volume, check_blur, seal


@dataclass(frozen=True, eq=False)
class SimulatedVolume:
    """One simulated volume.

    Attributes
    ----------
    clean : Volume
        Noise-free expectation of the filaments in filament units: background 0, peak of one filament 1.
    noisy : Volume or None
        The same, with haze and uneven light where the configuration has them, recorded by a camera: in filament units
        with that of the configuration, in counts with a given one.
    centre_lines : list of ndarray
        Pieces (n, 3) of the filaments inside the volume, um (z, y, x) from its corner.
    parameters : SampleParameters
        What it was drawn from.
    instances : list of int
        Number of its filament, from 1, per piece in ``centre_lines``.
    line_width_um : tuple of float
        Full widths at half maximum (lateral, axial) of an in-plane filament.
    """

    clean: Volume
    noisy: Volume | None
    centre_lines: list[npt.NDArray[np.float64]]
    parameters: SampleParameters
    instances: list[int]
    line_width_um: tuple[float, float]

    @cached_property
    def labels(self) -> npt.NDArray[np.int32]:
        """Instance labels (Z, Y, X), int32: number of the filament whose light dominates, 0 where there is none.

        Computed when first asked for; see `napari_vqldm.simulate.label_filaments` for the rule at crossings.
        """
        voxel_size = self.clean.voxel_size_um
        return label_filaments(self.centre_lines, self.instances, self.clean.shape, voxel_size, self.line_width_um)


@dataclass(frozen=True)
class SimulationStep:
    """One volume is simulated."""

    index: int
    total: int
    result: SimulatedVolume


def simulate(
    count: int = 1,
    seed: int = 0,
    config: SimulationConfig | str | Path | None = None,
    camera: CameraConfig | None = None,
    noisy: bool = True,
    start: int = 0,
    device: str = "cpu",
) -> list[SimulatedVolume]:
    """Simulate microtubule volumes.

    Volume ``i`` of a seed is the same whatever the count or the start.

    Parameters
    ----------
    count : int
        How many volumes.
    seed : int
        From 0 to 2**64 - 1.
    config : SimulationConfig, str or Path, optional
        Distribution of scenes: a configuration, the name of a tier or preset, or a TOML file. None: the standard tier.
    camera : CameraConfig, optional
        Record ``noisy`` with this camera, in camera counts. None: the camera of the configuration with photons and
        background drawn per volume, in filament units.
    noisy : bool
        Record a noisy volume at all.
    start : int
        Index of the first volume.
    device : str
        Where the images are made.

    Returns
    -------
    list of SimulatedVolume
        Clean and noisy volume, centre lines, parameters, and instance labels on demand.

    Raises
    ------
    ConfigError
        If an argument is out of range, a blur is wider than the volumes, or there is no such tier, preset or file.
    """
    return [step.result for step in simulate_steps(count, seed, config, camera, noisy, start, device)]


def simulate_steps(
    count: int = 1,
    seed: int = 0,
    config: SimulationConfig | str | Path | None = None,
    camera: CameraConfig | None = None,
    noisy: bool = True,
    start: int = 0,
    device: str = "cpu",
) -> Iterator[SimulationStep]:
    """Stepwise twin of `simulate`: one step per volume; close it to cancel. The request is checked before the first."""
    if count < 1 or seed < 0 or start < 0:
        raise ConfigError(f"expected a count of 1 or more, seed and start of 0 or more, got {count}, {seed}, {start}")
    check_seed(seed)
    distribution = _configuration(config)
    simulator = Simulator(distribution, device)
    if noisy:
        z, y, x = (size * (1.0 + distribution.voxel_size_jitter) for size in distribution.voxel_size_um)
        check_blur((camera or distribution.camera).blur_um, distribution.shape, (z, y, x))
    return _simulate(simulator, seed, range(start, start + count), camera, noisy)


def _configuration(config: SimulationConfig | str | Path | None) -> SimulationConfig:
    if isinstance(config, SimulationConfig):
        return config
    if config is not None and Path(config).suffix == ".toml":
        return validate(SimulationConfig, read_toml(Path(config)), str(config))
    if str(config) in PRESETS:
        return preset(str(config))
    return tier() if config is None else tier(str(config))


def _simulate(
    simulator: Simulator, seed: int, indices: range, camera: CameraConfig | None, noisy: bool
) -> Iterator[SimulationStep]:
    for done, index in enumerate(indices):
        with torch.no_grad():
            scene = simulator.scene(seed, index)
            batch = simulator.render([scene], noisy=noisy and camera is None)
            recorded = batch.noisy
            parameters = batch.parameters[0]
            if noisy and camera is not None:
                noise_seed = integer_seed(seed, index, CAMERA)
                shown = simulator.expected(batch.clean, [scene])
                recorded = render_camera(shown, camera, parameters.voxel_size_um, [noise_seed])
        name = f"simulated-seed{seed}-{index:03d}"
        made = {
            part: _seal(tensor, part, name, simulator, camera, parameters, seed=seed, index=index)
            for part, tensor in (("clean", batch.clean), ("noisy", recorded))
            if tensor is not None
        }
        widths = line_width_um(simulator.config.optics, parameters.psf_width_factor)
        result = SimulatedVolume(
            made["clean"], made.get("noisy"), batch.centre_lines[0], parameters, batch.instances[0], widths
        )
        yield SimulationStep(done, len(indices), result)


def _seal(
    tensor: Tensor,
    part: str,
    name: str,
    simulator: Simulator,
    camera: CameraConfig | None,
    parameters: SampleParameters,
    **identity: int,
) -> Volume:
    """Return one image (1, 1, D, H, W) of a volume with its record."""
    provenance = make_provenance(
        "simulate",
        environment=describe_environment(str(simulator.device)),
        **identity,
        part=part,
        config=simulator.config,
        camera=camera,
        parameters=parameters.to_dict(),
    )
    return seal(Volume(tensor[0, 0].cpu().numpy(), parameters.voxel_size_um, provenance, f"{name}-{part}"))
