"""The camera of the Sample tab: what its sliders mean, and what it may record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from psygnal import SignalGroupDescriptor

from napari_vqldm.card import Header
from napari_vqldm.config import CameraConfig
from napari_vqldm.plugin.state.knobs import knob

CAMERA_FIELDS = ("photons", "background", "read_noise_e", "offset_adu", "blur_um")


@dataclass
class CameraState:
    """A camera that records a noise-free volume: the fields of `CameraConfig` that have a slider.

    Attributes
    ----------
    is_on : bool
        Record whenever something changes.
    photons, background, read_noise_e, offset_adu, blur_um : float
        See `CameraConfig`.
    """

    is_on: bool = False
    photons: float = knob(
        100.0,
        label="Light",
        tooltip="Photons at the brightest voxel of one filament. Less light: more grain.",
        min=2.0,
        max=1000.0,
        step=1.0,
        unit="photons",
    )
    background: float = knob(
        0.1,
        label="Background",
        tooltip="Light where there is no filament, as a share of the brightest voxel of one filament.",
        min=0.0,
        max=2.0,
        step=0.01,
    )
    read_noise_e: float = knob(
        1.5,
        label="Read noise",
        tooltip="Noise of the camera's electronics, the same at every voxel (standard deviation).",
        min=0.0,
        max=20.0,
        step=0.1,
        unit="electrons",
    )
    offset_adu: float = knob(
        100.0,
        label="Offset",
        tooltip="Counts that the camera adds to every voxel.",
        min=0.0,
        max=1000.0,
        step=1.0,
        unit="counts",
    )
    blur_um: float = knob(
        0.0,
        label="Extra blur",
        tooltip="Blur before the camera, beside that of the microscope (Gaussian, sigma).",
        min=0.0,
        max=0.5,
        step=0.01,
        unit="µm",
    )

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    def why_not(self, header: Header | None, *, has_sample: bool) -> str:
        """Return why nothing can be recorded now, in one line; empty when it can."""
        if not has_sample and header is not None and header.config.target == "input":
            return f"{header.card.name} learned noisy stacks: its volumes hold camera noise already."
        if not has_sample:
            return "There is no noise-free volume to record: generate one first."
        return ""

    def to_camera(self) -> CameraConfig:
        """Return the camera; what has no slider is as in `CameraConfig`."""
        return CameraConfig(**{name: getattr(self, name) for name in CAMERA_FIELDS})

    def to_request(self) -> dict[str, Any]:
        """Return the keyword arguments of `napari_vqldm.record`, apart from the volume.

        No seed: a generated volume then gets the noise that ``generate(..., camera=...)`` gives it.
        """
        return {"camera": self.to_camera()}


def is_noise_free(record: Mapping[str, Any] | None) -> bool:
    """Tell from the record of a layer whether it was generated noise-free, so that a camera can record it."""
    if record is None or record.get("verb") != "generate":
        return False
    request = record.get("request", {})
    return request.get("camera") is None and request.get("target", "clean") == "clean"
