"""`Simulator`: volume ``index`` of ``seed`` as a pure function of the configuration, whatever the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_vqldm.config import ORGANISATIONS, Float3, Int3, Organisation, SimulationConfig
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate.camera import camera_in_filament_units, render_camera
from napari_vqldm.simulate.cell import Cell
from napari_vqldm.simulate.draws import (
    CAMERA,
    GEOMETRY,
    HAZE,
    IMAGING,
    PARAMETERS,
    generator_for,
    integer_seed,
    log_uniform,
    uniform,
)
from napari_vqldm.simulate.filaments import FloatArray, clip
from napari_vqldm.simulate.haze import haze, light
from napari_vqldm.simulate.optics import WIDTH_STEP, line_width_um, reach_um
from napari_vqldm.simulate.parts import draw_parts
from napari_vqldm.simulate.render import Light, Renderer
from napari_vqldm.simulate.scenes import Surroundings, populate

MAX_LENGTH_UM = 2e5  # of filament per volume, some 400 times that of a standard volume: seconds, not minutes
MAX_PADDED_VOXELS = 2**30  # 4 GiB per copy of the grid; a standard volume has 2**21


@dataclass(frozen=True)
class SampleParameters:
    """What one simulated volume was made from; lengths in um.

    ``length_density_um_per_um3`` is exact: centre line inside the volume over its extent, followers in bundles counted,
    whatever part of the volume a cell fills. ``psf_width_um`` is the
    lateral full width at half maximum of an in-plane line. ``photons`` and ``background`` speak of the
    peak of one filament.
    """

    seed: int
    index: int
    organisation: Organisation
    length_density_um_per_um3: float
    persistence_length_um: float
    mean_contour_length_um: float
    out_of_plane: float
    psf_width_um: float
    psf_width_factor: float
    voxel_size_um: Float3
    photons: float
    background: float
    haze_level: float = 0.0  # mean over the cytosol, in units of the filament peak
    haze_correlation_um: float = 0.0
    bleaching: float = 0.0  # share of the light lost from the first plane to the last
    vignetting: float = 0.0  # share lost from the axis to the corners
    has_cell: bool = False
    has_nucleus: bool = False
    bundled_share: float = 0.0  # expected part of followers among the filaments
    buckled_share: float = 0.0  # expected part of filaments with a buckle
    fluorophores_per_um: float | None = None  # None: a continuous line
    label_cv: float = 0.0
    label_correlation_um: float | None = None
    label_gap_share: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return all parameters as JSON-compatible values."""
        values = asdict(self)
        values["voxel_size_um"] = list(self.voxel_size_um)
        return values

    def condition_values(self) -> dict[str, float | str]:
        """Return what a conditioned model is told about the volume."""
        return {
            "length_density_um_per_um3": self.length_density_um_per_um3,
            "persistence_length_um": self.persistence_length_um,
            "psf_width_um": self.psf_width_um,
            "voxel_size_z_um": self.voxel_size_um[0],
            "voxel_size_xy_um": self.voxel_size_um[1],
            "organisation": self.organisation,
        }


@dataclass(frozen=True)
class Scene:
    """Filaments of one volume, in um relative to its corner (z, y, x); they may reach beyond it."""

    parameters: SampleParameters
    filaments: list[FloatArray]
    brightness: FloatArray  # (filaments,)
    extent_um: FloatArray  # (3,)
    cell: Cell | None = None
    labelling: list[FloatArray] | None = None  # per filament (points - 1,): brightness of its segments, 1 on average

    def light(self) -> list[Light]:
        """Return the brightness of each filament: one number, or one per segment where it is labelled unevenly."""
        if self.labelling is None:
            return list(self.brightness.tolist())
        return [float(b) * segments for b, segments in zip(self.brightness, self.labelling, strict=True)]

    def centre_lines(self) -> list[FloatArray]:
        """Return the pieces (n, 3) of the filaments inside the volume; their length is the exact length density."""
        return self.numbered_pieces()[0]

    def numbered_pieces(self) -> tuple[list[FloatArray], list[int]]:
        """Return those pieces and, for each, the number of its filament: 1, 2, ... among those in the volume."""
        low = np.zeros(3)
        pieces, numbers, number = [], [], 0
        for line in self.filaments:
            inside = clip(line, low, self.extent_um)
            number += bool(inside)
            pieces += inside
            numbers += [number] * len(inside)
        return pieces, numbers


@dataclass(frozen=True)
class SimulatedBatch:
    """Simulated volumes in filament units: background 0, peak of one filament 1.

    Attributes
    ----------
    clean : Tensor
        float32 (B, 1, D, H, W), the noise-free expectation of the filaments alone: no haze, even light.
    noisy : Tensor or None
        The same, dimmed and with haze where the configuration says so, recorded by the camera, in the same units.
    centre_lines : list of list of ndarray
        Per volume the pieces (n, 3) inside it, um (z, y, x) relative to its corner; the centre of voxel i is at
        (i + 0.5) times the voxel size.
    parameters : list of SampleParameters
        One per volume.
    instances : list of list of int
        Per volume the number of the filament, from 1, of every piece in ``centre_lines``.
    """

    clean: Tensor
    noisy: Tensor | None
    centre_lines: list[list[FloatArray]]
    parameters: list[SampleParameters]
    instances: list[list[int]] = field(default_factory=list)


def _check_size(config: SimulationConfig, margin: Int3) -> None:
    """Refuse scenes that would take minutes to grow or more memory than a computer has, before either is tried."""
    where = f"shape {config.shape} with voxel size {config.voxel_size_um} um"
    padded = [n + 2 * m for n, m in zip(config.shape, margin, strict=True)]
    if math.prod(padded) > MAX_PADDED_VOXELS:
        raise ConfigError(
            f"{where} is imaged on {' x '.join(map(str, padded))} voxels, with the reach of the microscope's light: "
            f"expected at most {MAX_PADDED_VOXELS:.0e}: use larger voxels or a smaller shape"
        )
    volume = math.prod(n * size for n, size in zip(config.shape, config.voxel_size_um, strict=True))
    length = config.length_density_um_per_um3[1] * volume * (1.0 + config.voxel_size_jitter) ** 3
    if length > MAX_LENGTH_UM:
        raise ConfigError(
            f"{where} would hold up to {length:.2g} um of filament: expected at most {MAX_LENGTH_UM:.2g} um: "
            "use smaller voxels (they are micrometres), a smaller shape or a lower length density"
        )


class Simulator:
    """Draws microtubule scenes from a distribution and images them.

    Scenes are drawn on the CPU, images are made on ``device``. On the CPU a volume has the same bits in every batch.

    Parameters
    ----------
    config : SimulationConfig
        Distribution of scenes, optics and camera.
    device : str or torch.device
        Where the images are made.

    Raises
    ------
    ConfigError
        If shape and voxel size ask for too many voxels or too much filament.
    """

    def __init__(self, config: SimulationConfig, device: str | torch.device = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)
        largest = config.psf_width_factor[1]
        smallest_voxel = [size / (1.0 + config.voxel_size_jitter) for size in config.voxel_size_um]
        z, y, x = (
            int(np.ceil(reach / size))
            for reach, size in zip(reach_um(config.optics, largest), smallest_voxel, strict=True)
        )
        self.margin: Int3 = (z, y, x)
        _check_size(config, self.margin)
        self._renderer = Renderer(config.shape, config.optics, self.margin, self.device)

    def draw_parameters(self, seed: int, index: int) -> SampleParameters:
        """Draw the parameters of volume ``index`` of ``seed``."""
        config = self.config
        rng = generator_for(seed, index, PARAMETERS)
        weights = np.array([config.organisation.get(name, 0.0) for name in ORGANISATIONS])
        organisation = ORGANISATIONS[int(rng.choice(len(ORGANISATIONS), p=weights / weights.sum()))]
        stretch = 1.0 + config.voxel_size_jitter
        z_factor, xy_factor = log_uniform(rng, (1 / stretch, stretch)), log_uniform(rng, (1 / stretch, stretch))
        z, y, x = config.voxel_size_um
        factor = max(1, round(uniform(rng, config.psf_width_factor) / WIDTH_STEP)) * WIDTH_STEP
        imaging = generator_for(seed, index, IMAGING)
        extent = np.asarray(config.shape) * np.array([z * z_factor, y * xy_factor, x * xy_factor])
        parts = draw_parts(config, organisation, extent, seed, index)
        return SampleParameters(
            seed=seed,
            index=index,
            organisation=organisation,
            length_density_um_per_um3=log_uniform(rng, config.length_density_um_per_um3),
            persistence_length_um=log_uniform(rng, config.persistence_length_um),
            mean_contour_length_um=uniform(rng, config.mean_contour_length_um),
            out_of_plane=uniform(rng, config.out_of_plane),
            psf_width_um=line_width_um(config.optics, factor)[0],
            psf_width_factor=factor,
            voxel_size_um=(z * z_factor, y * xy_factor, x * xy_factor),
            photons=log_uniform(rng, config.photons),
            background=uniform(rng, config.background),
            haze_level=uniform(imaging, config.haze.level),
            haze_correlation_um=uniform(imaging, config.haze.correlation_um) if config.haze.level[1] > 0 else 0.0,
            bleaching=uniform(imaging, config.illumination.bleaching),
            vignetting=uniform(imaging, config.illumination.vignetting),
            **parts.parameters(),
        )

    def scene(self, seed: int, index: int) -> Scene:
        """Draw the filaments of volume ``index`` of ``seed`` (CPU only, no image)."""
        parameters = self.draw_parameters(seed, index)
        rng = generator_for(seed, index, GEOMETRY)
        voxel = np.asarray(parameters.voxel_size_um)
        extent = np.asarray(self.config.shape) * voxel
        parts = draw_parts(self.config, parameters.organisation, extent, seed, index)
        around = Surroundings(
            extent=extent,
            reach=np.asarray(self.margin) * voxel,
            persistence_length_um=parameters.persistence_length_um,
            mean_contour_length_um=parameters.mean_contour_length_um,
            out_of_plane=max(parameters.out_of_plane, 0.02),
            cell=parts.cell,
            buckles=parts.buckles(),
            bundles=parts.bundles(),
            spindle=self.config.spindle,
        )
        length = parameters.length_density_um_per_um3 * float(extent.prod())
        filaments = populate(parameters.organisation, around, length, rng)
        spread = float(np.sqrt(np.log1p(self.config.brightness_cv**2)))  # log-normal with mean 1
        brightness = np.exp(spread * rng.standard_normal(len(filaments)) - 0.5 * spread**2)
        labelling = parts.segment_brightness(filaments)
        return Scene(parameters, filaments, brightness, extent, parts.cell, labelling)

    def render(self, scenes: Sequence[Scene], *, noisy: bool = True) -> SimulatedBatch:
        """Image scenes that were drawn before, perhaps in other processes."""
        images = []
        for scene in scenes:
            p = scene.parameters
            images.append(self._renderer.render(scene.filaments, scene.light(), p.voxel_size_um, p.psf_width_factor))
        clean = torch.stack(images)[:, None] if images else torch.empty((0, 1, *self.config.shape), device=self.device)
        pieces = [scene.numbered_pieces() for scene in scenes]
        return SimulatedBatch(
            clean=clean,
            noisy=self._record(self.expected(clean, scenes), scenes) if noisy else None,
            centre_lines=[lines for lines, _ in pieces],
            parameters=[scene.parameters for scene in scenes],
            instances=[numbers for _, numbers in pieces],
        )

    def expected(self, clean: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Return what a detector is shown, without its constant background and without noise.

        Parameters
        ----------
        clean : Tensor
            (B, 1, D, H, W), rendered from ``scenes``.
        scenes : sequence of Scene
            One per volume.

        Returns
        -------
        Tensor
            ``clean`` with haze, both dimmed by bleaching and vignetting; ``clean`` itself where all of that is off.
        """
        options, uneven = self.config.haze, self.config.illumination
        if max(options.level[1], uneven.bleaching[1], uneven.vignetting[1]) <= 0:
            return clean
        shown = clean.clone()
        for i, scene in enumerate(scenes):
            p = scene.parameters
            if p.haze_level > 0:
                glow = haze(
                    self.config.shape,
                    p.voxel_size_um,
                    p.haze_level,
                    p.haze_correlation_um,
                    options.contrast,
                    generator_for(p.seed, p.index, HAZE),
                    cell=scene.cell,
                    nucleus=options.nucleus,
                )
                shown[i, 0] += torch.from_numpy(glow).to(shown)
            shown[i, 0] *= torch.from_numpy(light(self.config.shape, p.bleaching, p.vignetting)).to(shown)
        return shown

    def _record(self, clean: Tensor, scenes: Sequence[Scene]) -> Tensor:
        recorded = torch.empty_like(clean)
        for i, scene in enumerate(scenes):
            p = scene.parameters
            camera = self.config.camera.model_copy(update={"photons": p.photons, "background": p.background})
            adu = render_camera(clean[i : i + 1], camera, p.voxel_size_um, [integer_seed(p.seed, p.index, CAMERA)])
            recorded[i] = camera_in_filament_units(adu, camera)[0]
        return recorded

    def sample(self, seed: int, indices: Sequence[int], *, noisy: bool = True) -> SimulatedBatch:
        """Simulate volumes.

        Parameters
        ----------
        seed : int
            Names a data set; 0 or more.
        indices : sequence of int
            Which of its volumes.
        noisy : bool
            Record them with the camera of the configuration, with the photons and background drawn per volume.

        Returns
        -------
        SimulatedBatch
            One volume per index, in order.
        """
        return self.render([self.scene(seed, index) for index in indices], noisy=noisy)
