"""What the Reconstruct tab holds: which part of which layer, how it is coded, and what may be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from psygnal import SignalGroupDescriptor

from napari_vqldm.errors import ConfigError, VolumeError
from napari_vqldm.plugin.layers.info import LayerInfo
from napari_vqldm.plugin.state.knobs import knob
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Float3, check_voxel_size

FRAMES = ("this", "all")
REGIONS = ("whole", "shapes", "view")
KINDS = ("noise", "posterior")
LARGEST_TILE = 2**27


@dataclass
class ReconstructState:
    """Choices of the Reconstruct tab.

    Attributes
    ----------
    frames : str
        Of a time series: ``"this"`` time point or ``"all"``.
    region : str
        ``"whole"`` volume, the rectangle of a ``"shapes"`` layer, or what the ``"view"`` shows.
    channel : int
        Of layers with several.
    typed_voxel_size_um : tuple of float
        (z, y, x) that the user entered; 0 where he did not.
    uses_typed : bool
        The entered voxel size replaces that of the layer.
    background, scale : float or None
        Intensities of empty space and of one filament above it; None: estimated.
    max_voxels : int or None
        Voxels that go through the network at once; None: the core's default.
    draws, seed, kind
        Of the uncertainty map.
    """

    frames: str = "this"
    region: str = "whole"
    channel: int = 0
    typed_voxel_size_um: Float3 = (0.0, 0.0, 0.0)
    uses_typed: bool = False
    background: float | None = knob(
        None,
        label="Background",
        tooltip="Intensity of empty space, in the units of the image. Leave it off to let it be measured.",
        step=1.0,
        decimals=4,  # images of floats may reach from 0 to 1
        nullable="measured",
    )
    scale: float | None = knob(
        None,
        label="One filament",
        tooltip="How much brighter than the background one filament is. Leave it off to let it be measured.",
        min=1e-4,
        step=1.0,
        decimals=4,
        nullable="measured",
        start=1.0,
    )
    max_voxels: int | None = knob(
        None,
        label="Largest tile",
        tooltip="Voxels that are computed at once. Smaller tiles take less memory and a little more time.",
        min=2**15,
        max=LARGEST_TILE,
        step=2**15,
        unit="voxels",
        nullable="automatic",
        start=MAX_VOXELS,
    )
    draws: int = knob(
        8,
        label="Draws",
        tooltip="How many times the volume is reconstructed for the map. More draws: smoother, but slower.",
        min=2,
        max=256,
        step=1,
    )
    kind: str = knob(
        "noise",
        label="Vary",
        tooltip="noise: add fresh camera noise of the measured strength. "
        "posterior: draw from what the encoder considers possible (ldm models only).",
        choices=KINDS,
    )
    seed: int = 0

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    # --- voxel size -------------------------------------------------------------------------------------------------

    def take_voxel_size_of(self, info: LayerInfo | None) -> None:
        """Start from what a layer says: its voxel size is shown, and asked for where it says none."""
        known = info.voxel_size_um if info is not None else None
        self.typed_voxel_size_um = known or (0.0, 0.0, 0.0)
        self.uses_typed = info is not None and known is None

    def voxel_size_um(self, info: LayerInfo) -> Float3 | None:
        """Return the voxel size to compute with, None for that of the layer.

        Raises
        ------
        VolumeError
            If the layer states none and none was entered, or the entered one is absurd.
        """
        if not self.uses_typed and info.voxel_size_um is not None:
            return None
        if 0.0 in self.typed_voxel_size_um:
            missing = ", ".join(a for a, v in zip("zyx", self.typed_voxel_size_um, strict=True) if v == 0)
            raise VolumeError(f"the voxel size along {missing} is not known: enter it in micrometres")
        return check_voxel_size(self.typed_voxel_size_um)

    def voxel_size_text(self, info: LayerInfo) -> str:
        """Say which voxel size counts, and whether it should be checked."""
        if self.uses_typed:
            if 0.0 in self.typed_voxel_size_um:
                return "Voxel size: the layer states none. Enter z, y and x in micrometres."
            return f"Voxel size: {_sizes(self.typed_voxel_size_um)} µm (z, y, x), as entered."
        if info.voxel_size_um is None:
            return "Voxel size: the layer states none. Enter z, y and x in micrometres."
        text = f"Voxel size: {_sizes(info.voxel_size_um)} µm (z, y, x)"
        if info.is_assumed_um:
            return f"{text}, taken as micrometres: check it. The layer has a scale without a unit."
        return f"{text}, from the layer."

    # --- decisions --------------------------------------------------------------------------------------------------

    def why_not(self, *, has_model: bool, info: LayerInfo | None, num_layers: int = 1, is_running: bool = False) -> str:
        """Return why nothing can be reconstructed now, in one line; empty when it can."""
        if not has_model:
            return "No model is open: choose one on the Model tab."
        if info is None:
            return (
                "There is no image layer: use Open volume, or File > Open Sample."
                if num_layers == 0
                else "Choose an image layer with a z stack."
            )
        if not info.is_usable:
            return f"{info.reason[:1].upper()}{info.reason[1:]}."
        if is_running:
            return "A reconstruction is running: wait for it or cancel it."
        try:
            self.voxel_size_um(info)
            self.to_request()
        except (VolumeError, ConfigError) as error:
            text = str(error)
            return f"{text[:1].upper()}{text[1:]}."
        return ""

    def takes_all_frames(self, info: LayerInfo) -> bool:
        """Whether every time point of the layer is meant."""
        return info.num_times > 1 and self.frames == "all"

    def why_no_uncertainty(self, family: str) -> str:
        """Return why no uncertainty map can be made with a model of this family; empty when it can."""
        if self.kind == "posterior" and family != "ldm":
            return "Draws from the posterior need an ldm model: choose noise."
        return ""

    # --- requests ---------------------------------------------------------------------------------------------------

    def to_request(self) -> dict[str, Any]:
        """Return the keyword arguments of `napari_vqldm.reconstruct_steps`, apart from model and volume.

        Raises
        ------
        ConfigError
            If only one of background and scale is given.
        """
        request: dict[str, Any] = {}
        if (self.background is None) != (self.scale is None):
            raise ConfigError("expected background and one filament together, got one of them: give both or none")
        if self.background is not None and self.scale is not None:
            from napari_vqldm.intensity import IntensityScale

            request["intensity"] = IntensityScale(self.background, self.scale)
        if self.max_voxels is not None:
            request["max_voxels"] = self.max_voxels
        return request

    def to_uncertainty_request(self) -> dict[str, Any]:
        """Return the keyword arguments of `napari_vqldm.uncertainty_steps`, apart from model and volume."""
        return {"draws": self.draws, "seed": self.seed, "kind": self.kind}


def _sizes(values: Float3) -> str:
    return " × ".join(f"{value:.4g}" for value in values)
