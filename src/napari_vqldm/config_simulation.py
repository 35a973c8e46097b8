"""Configuration of the simulator: scenes, labelling, optics, illumination, camera."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from napari_vqldm.config_base import (
    Config,
    Float3,
    Fraction,
    Int3,
    Organisation,
    Positive,
    Range,
    check_voxel_size,
)


class _Grown(Config):
    """Options named in ``_later`` are left out of the text while they are off.

    Data sets, checkpoints and run folders that are older than an option keep their name and their content.
    """

    _later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        off = [
            name for name in self._later if getattr(self, name) == fields[name].get_default(call_default_factory=True)
        ]
        return {name: value for name, value in values.items() if name not in off}


class OpticsConfig(_Grown):
    """Microscope objective and detection; the point spread function follows from it."""

    modality: Literal["confocal", "widefield"] = "confocal"
    numerical_aperture: Annotated[float, Field(gt=0.1, lt=1.6)] = 1.4
    immersion_index: Annotated[float, Field(ge=1.0, le=1.8)] = 1.515
    emission_wavelength_um: Annotated[float, Field(ge=0.3, le=1.2)] = 0.6
    excitation_wavelength_um: Annotated[float, Field(ge=0.3, le=1.2)] = 0.56
    pinhole_airy: Annotated[float, Field(gt=0.0, le=5.0)] = 1.0
    specimen_index: Annotated[float, Field(ge=1.0, le=1.8)] | None = None  # None: that of the immersion
    depth_um: Annotated[float, Field(ge=0.0, le=50.0)] = 0.0  # of the focus below the cover slip, in the specimen

    _later = frozenset({"specimen_index", "depth_um"})

    @property
    def is_aberrated(self) -> bool:
        """Whether light passes a layer of another index: the point spread function is then no longer even in z."""
        return self.depth_um > 0.0 and self.specimen_index not in (None, self.immersion_index)


class HazeConfig(Config):
    """Free tubulin and out-of-focus light: a smooth random field that the camera sees and ``clean`` does not hold."""

    level: Range = (0.0, 0.0)  # mean over the volume, in units of the filament peak; 0 to 0: no haze
    correlation_um: Range = (2.0, 5.0)  # above 0; distance at which the correlation of the field is 1/e
    contrast: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3  # standard deviation over mean, in the cytosol
    nucleus: Annotated[float, Field(ge=0.0, le=1.0)] = 0.3  # part of the level that is left in the nucleus

    @model_validator(mode="after")
    def _correlates(self) -> Self:
        if self.correlation_um[0] <= 0:
            raise ValueError(f"correlation_um: expected 0 < low <= high, got {self.correlation_um}")
        return _ordered(self)


class IlluminationConfig(Config):
    """Light lost over the volume; it dims filaments and haze, not the constant background."""

    bleaching: Range = (0.0, 0.0)  # share lost from the first plane to the last, linear in z
    vignetting: Range = (0.0, 0.0)  # share lost from the axis to the lateral corners, quadratic in the distance

    @model_validator(mode="after")
    def _are_shares(self) -> Self:
        for name, (_, high) in self:
            if high >= 1.0:
                raise ValueError(f"{name}: expected shares below 1, got {getattr(self, name)}")
        return _ordered(self)


class CameraConfig(_Grown):
    """Detector. ``photons`` and ``background`` speak of the peak voxel of one filament.

    The defaults are an ideal camera with one read noise. A point detector (PMT, HyD) has ``excess_noise`` 1.1 to 1.4,
    ``read_noise_e`` 0 and 8 or 12 bits; an sCMOS has ``read_noise_spread`` 0.3 to 0.6, some hot pixels and 16 bits.
    """

    photons: Positive = 100.0  # expected photons at the peak of one filament above background
    background: Annotated[float, Field(ge=0.0)] = 0.1  # constant background, in units of the filament peak
    quantum_efficiency: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    read_noise_e: Annotated[float, Field(ge=0.0)] = 1.5  # standard deviation, electrons
    gain_e_per_adu: Positive = 0.5
    offset_adu: Annotated[float, Field(ge=0.0)] = 100.0
    blur_um: Annotated[float, Field(ge=0.0)] = 0.0  # extra isotropic Gaussian blur before detection, sigma
    # The sensor: a fixed pattern over (y, x), the same in every plane and every volume of one sensor seed.
    sensor_seed: Annotated[int, Field(ge=0)] = 0
    read_noise_spread: Annotated[float, Field(ge=0.0, le=2.0)] = 0.0  # log-normal sigma about the median read_noise_e
    hot_pixel_share: Annotated[float, Field(ge=0.0, le=0.1)] = 0.0
    hot_pixel_e: Annotated[float, Field(ge=0.0)] = 50.0  # mean excess per exposure of a hot pixel, electrons
    excess_noise: Annotated[float, Field(ge=1.0, le=2.0)] = 1.0  # F: shot noise has the variance F^2 times the mean
    full_well_e: Positive | None = None  # electrons at which a pixel saturates; None: never
    bit_depth: Annotated[int, Field(ge=1, le=24)] | None = None  # whole counts from 0 to 2^bits - 1; None: as they are

    _later = frozenset(
        {
            "sensor_seed",
            "read_noise_spread",
            "hot_pixel_share",
            "hot_pixel_e",
            "excess_noise",
            "full_well_e",
            "bit_depth",
        }
    )


class CellConfig(Config):
    """Cell that holds the filaments: an ellipsoidal membrane and a nucleus in it, both kept free of crossings."""

    share: Fraction = 0.0  # of the volumes that show a cell; 0: filaments fill all space
    half_height_um: Range = (2.0, 5.0)  # of the membrane; below 1 um filaments could not turn in it
    lateral_radius_um: Range = (8.0, 14.0)  # drawn for each of two in-plane axes, which point anywhere
    # Standard deviation of the cell's centre from that of the window, laterally and in z.
    centre_spread_um: Annotated[float, Field(ge=0.0)] = 4.0
    centre_spread_z_um: Annotated[float, Field(ge=0.0)] = 0.5
    nucleus_share: Fraction = 1.0  # of the cells; spindles have none
    nucleus_lateral: Range = (0.3, 0.5)  # radius over that of the membrane
    nucleus_height: Range = (0.4, 0.7)  # half-height over that of the membrane

    @model_validator(mode="after")
    def _holds_filaments(self) -> Self:
        for name, least in (("half_height_um", 1.0), ("lateral_radius_um", 2.0)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise ValueError(f"{name}: expected {least} <= low <= high, got {(low, high)}")
        for name in ("nucleus_lateral", "nucleus_height"):
            low, high = getattr(self, name)
            if not 0.05 <= low <= high <= 0.8:
                raise ValueError(f"{name}: expected 0.05 <= low <= high <= 0.8, got {(low, high)}")
        return self


class BundleConfig(Config):
    """Filaments that run beside a neighbour for all its contour."""

    share: Range = (0.0, 0.0)  # of all filaments; 0 to 0: no bundles
    offset_um: Range = (0.03, 0.06)  # lateral distance between centre lines

    @model_validator(mode="after")
    def _leaves_leaders(self) -> Self:
        if self.share[1] > 0.5:
            raise ValueError(f"share: expected at most 0.5, as every follower has a leader, got {self.share}")
        if self.offset_um[1] > 0.2:
            raise ValueError(f"offset_um: expected at most 0.2, the reach of cross-linkers, got {self.offset_um}")
        return _ordered(self)


class BuckleConfig(Config):
    """Filaments that bend sharply once, as if pushed from one end."""

    share: Range = (0.0, 0.0)  # of all filaments; 0 to 0: no buckles
    radius_um: Range = (0.5, 1.5)  # of curvature where it is sharpest
    deflection: Range = (0.5, 0.9)  # largest angle of the tangent to the unbuckled filament, rad

    @model_validator(mode="after")
    def _bends(self) -> Self:
        if self.share[1] > 1.0:
            raise ValueError(f"share: expected at most 1, got {self.share}")
        if self.radius_um[0] < 0.3 or not 0.1 <= self.deflection[0] <= self.deflection[1] <= 1.5:
            raise ValueError(
                f"expected radius_um of 0.3 or more and deflection between 0.1 and 1.5, got {self.radius_um} and "
                f"{self.deflection}"
            )
        return _ordered(self)


class LabellingConfig(Config):
    """Light along a filament; its mean stays 1, so a volume keeps its unit."""

    fluorophores_per_um: Range | None = None  # log-uniform, Poisson; None: a continuous line
    intensity_cv: Range = (0.0, 0.0)  # of a log-normal first-order autoregression along the contour
    correlation_um: Range = (0.3, 1.0)  # distance at which the correlation of its logarithm is 1/e
    gap_share: Range = (0.0, 0.0)  # of the length, without any label
    gap_um: Range = (0.1, 0.5)  # length of one gap

    @model_validator(mode="after")
    def _labels(self) -> Self:
        for name in ("fluorophores_per_um", "correlation_um", "gap_um"):
            limits = getattr(self, name)
            if limits is not None and limits[0] <= 0:
                raise ValueError(f"{name}: expected 0 < low <= high, got {limits}")
        for name, most in (("intensity_cv", 2.0), ("gap_share", 0.5)):
            if getattr(self, name)[1] > most:
                raise ValueError(f"{name}: expected at most {most}, got {getattr(self, name)}")
        return _ordered(self)


class SpindleConfig(Config):
    """Spindles of the organisation of that name: two poles, arcs between them, short astral filaments."""

    length_um: Range = (6.0, 10.0)  # above 0, pole to pole; shorter where a cell has no room
    # At the equator, where arcs then cross evenly all over a disk; None: they thin out from the axis.
    width_um: Range | None = None
    astral_share: Range = (0.1, 0.3)  # of the filaments
    # The rest only for spindles with a width.
    minus_ends: Fraction = 0.0  # arcs start within this share of their way, from the pole on
    fiber_share: Range = (0.0, 0.0)  # of the arcs, bound to few places of the equator as kinetochore fibers are
    num_fibers: Range = (20.0, 46.0)

    @model_validator(mode="after")
    def _has_poles(self) -> Self:
        if self.length_um[0] < 1.0 or (self.width_um is not None and self.width_um[0] <= 0):
            raise ValueError(
                f"expected length_um from 1 and width_um above 0, got {self.length_um} and {self.width_um}"
            )
        for name in ("astral_share", "fiber_share"):
            if getattr(self, name)[1] > 1.0:
                raise ValueError(f"{name}: expected at most 1, got {getattr(self, name)}")
        if self.width_um is None and (self.minus_ends > 0 or self.fiber_share[1] > 0):
            raise ValueError("minus_ends and fiber_share: expected width_um with them, got none")
        return _ordered(self)


def _default_mix() -> dict[Organisation, float]:
    return {"aster": 0.3, "two_asters": 0.05, "free": 0.4, "aligned": 0.15, "spindle": 0.1}


G = TypeVar("G", bound=Config)


def _ordered(config: G) -> G:
    """Refuse ranges (low, high) that are not 0 <= low <= high."""
    for name, value in config:
        if isinstance(value, tuple) and len(value) == 2 and not 0 <= value[0] <= value[1]:
            raise ValueError(f"{name}: expected 0 <= low <= high, got {value}")
    return config


# Ranges that are drawn log-uniformly, or whose 0 would be no filament and no microscope.
_ABOVE_ZERO = (
    "length_density_um_per_um3",
    "persistence_length_um",
    "mean_contour_length_um",
    "photons",
    "psf_width_factor",
)


class SimulationConfig(_Grown):
    """Distribution from which scenes are drawn; every range is (low, high)."""

    shape: Int3 = (32, 128, 128)
    voxel_size_um: Float3 = (0.2, 0.1, 0.1)  # nominal (z, y, x)
    # Log-uniform factor in [1/(1+j), 1+j], drawn for z apart from xy.
    voxel_size_jitter: Annotated[float, Field(ge=0.0, lt=0.5)] = 0.0
    length_density_um_per_um3: Range = (0.1, 0.5)  # log-uniform
    persistence_length_um: Range = (5.0, 60.0)  # log-uniform
    mean_contour_length_um: Range = (5.0, 20.0)  # above 0
    out_of_plane: Range = (0.15, 1.0)  # z-weight of directions: flat cell to round cell
    organisation: dict[Organisation, Annotated[float, Field(ge=0.0)]] = Field(default_factory=_default_mix)
    brightness_cv: Annotated[float, Field(ge=0.0, le=1.0)] = 0.15
    optics: OpticsConfig = OpticsConfig()
    psf_width_factor: Range = (0.9, 1.25)  # above 0; emission wavelength is multiplied by it: wider or narrower PSF
    photons: Range = (50.0, 200.0)  # log-uniform
    background: Range = (0.02, 0.4)
    camera: CameraConfig = CameraConfig()  # read noise, gain, offset, quantum efficiency
    haze: HazeConfig = HazeConfig()
    illumination: IlluminationConfig = IlluminationConfig()
    cell: CellConfig = CellConfig()
    bundles: BundleConfig = BundleConfig()
    buckles: BuckleConfig = BuckleConfig()
    labelling: LabellingConfig = LabellingConfig()
    spindle: SpindleConfig = SpindleConfig()

    _later = frozenset({"haze", "illumination", "cell", "bundles", "buckles", "labelling", "spindle"})

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and len(value) == 2 and not 0 <= value[0] <= value[1]:
                raise ValueError(f"{name}: expected 0 <= low <= high, got {value}")
            if name in _ABOVE_ZERO and value[0] <= 0:
                raise ValueError(f"{name}: expected 0 < low <= high, got {value}")
        check_voxel_size("voxel_size_um", self.voxel_size_um)
        if not any(w > 0 for w in self.organisation.values()):
            raise ValueError("organisation: expected at least one weight above 0")
        if min(self.shape) < 2:
            raise ValueError(f"shape: expected at least 2 voxels per axis, got {self.shape}")
        return self
