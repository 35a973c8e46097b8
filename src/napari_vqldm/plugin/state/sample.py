"""What the Sample tab holds: how many volumes of which size, seed and conditions. The camera is in `camera`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from psygnal import SignalGroupDescriptor

from napari_vqldm.card import Header
from napari_vqldm.condition_ranges import middle_voxel_size
from napari_vqldm.config import SAMPLERS_OF
from napari_vqldm.plugin.state.knobs import knob
from napari_vqldm.volume import Float3, Int3

Ranges = Mapping[str, tuple[float, float] | tuple[str, ...]]  # of `napari_vqldm.condition_ranges.allowed_conditions`

MOST_VOLUMES = 1000
LARGEST_WINDOW = 4096  # voxels per axis; the real limit is the window of the model
MOST_FLOW_STEPS = 1000  # the core allows more, nobody waits for them
VOXEL_AXES = ("voxel_size_z_um", "voxel_size_xy_um", "voxel_size_xy_um")  # condition of each axis (z, y, x)


@dataclass(frozen=True)
class ConditionText:
    """How one condition of a model is shown: label, unit and help in plain words."""

    label: str
    unit: str
    tooltip: str


CONDITIONS = {
    "organisation": ConditionText("Arrangement", "", "How the filaments lie to each other."),
    "length_density_um_per_um3": ConditionText(
        "Filament density", "µm/µm³", "Total length of all filaments in one cubic micrometre. Higher: more crowded."
    ),
    "persistence_length_um": ConditionText(
        "Stiffness",
        "µm",
        "Persistence length: the distance over which a filament keeps its direction. Higher: straighter.",
    ),
    "psf_width_um": ConditionText(
        "Microscope blur", "µm", "Full width at half maximum of a thin filament in y and x. Higher: less sharp."
    ),
    "voxel_size_z_um": ConditionText("Voxel size z", "µm", "Distance of two planes."),
    "voxel_size_xy_um": ConditionText("Voxel size y, x", "µm", "Distance of two neighboring voxels of a plane."),
}
ORGANISATIONS = {
    "aster": "aster (one center)",
    "two_asters": "two asters",
    "free": "free",
    "aligned": "aligned",
    "spindle": "spindle",
}


@dataclass
class SampleState:
    """Choices of the Sample tab, apart from the camera.

    Attributes
    ----------
    count : int
        Volumes.
    size_z, size_y, size_x : int
        Voxels of each.
    seed : int
        Of the next request.
    condition : mapping
        Name to value of the conditions that are fixed; the others are drawn for every volume.
    steps, sampler, guidance_scale, batch : optional
        None: the default of the model, or of the device.
    start : int
        Index of the first volume within the seed.
    shows_preview : bool
        Show the volume while it forms.
    keeps_way : bool
        Add the clean estimate of every step as a 4D layer.
    """

    count: int = knob(
        1, label="Volumes", tooltip="How many volumes to generate from this seed.", min=1, max=MOST_VOLUMES, step=1
    )
    size_z: int = knob(
        32,
        label="Size z",
        tooltip="Planes of the volume. A smaller size is the center of the window that the model was trained on.",
        min=2,
        max=LARGEST_WINDOW,
        step=1,
        unit="voxels",
    )
    size_y: int = knob(128, label="Size y", tooltip="Voxels along y.", min=2, max=LARGEST_WINDOW, step=1, unit="voxels")
    size_x: int = knob(128, label="Size x", tooltip="Voxels along x.", min=2, max=LARGEST_WINDOW, step=1, unit="voxels")
    seed: int = 0
    condition: Mapping[str, float | str] = field(default_factory=dict)
    steps: int | None = knob(
        None,
        label="Steps",
        tooltip="Denoising steps of each volume. More steps: more time, finer detail.",
        min=1,
        max=MOST_FLOW_STEPS,
        step=1,
        nullable="model's default",
        start=20,
    )
    sampler: str | None = knob(
        None,
        label="Sampler",
        tooltip="How noise is turned into a volume.",
        choices=SAMPLERS_OF["flow"],
        nullable="model's default",
    )
    guidance_scale: float | None = knob(
        None,
        label="Guidance",
        tooltip="How strictly volumes follow the conditions that you fix; 1 is off, higher is stricter and slower.",
        min=0.0,
        max=20.0,
        step=0.1,
        nullable="model's default",
        start=1.0,
    )
    batch: int | None = knob(
        None,
        label="At once",
        tooltip="Volumes that are computed together. More need more memory; on a CPU it is not faster.",
        min=1,
        max=64,
        step=1,
        nullable="automatic",
    )
    start: int = knob(
        0,
        label="First index",
        tooltip="Number of the first volume within the seed. Volume 5 of a seed is the same whatever came before it.",
        min=0,
        step=1,
    )
    shows_preview: bool = knob(
        True, label="Show it forming", tooltip="Show a rough picture of the volume while it is denoised."
    )
    keeps_way: bool = knob(
        False,
        label="Keep the way",
        tooltip="Also add what the model believed after every step, from noise to volume, as a layer with a slider. "
        "Of volumes that are computed together the first one is kept.",
    )

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    @property
    def shape(self) -> Int3:
        """Voxels (Z, Y, X)."""
        return self.size_z, self.size_y, self.size_x

    def take_model(self, header: Header) -> None:
        """Fit the choices to a model: its window, and nothing that another model was asked for.

        The voxel size is fixed, so that volumes have one size in micrometres and can be compared and interpolated.
        """
        self.size_z, self.size_y, self.size_x = header.config.window
        self.condition = middle_voxel_size(header.config)
        if self.sampler not in samplers_of(header):
            self.sampler = None
        if self.steps is not None:
            self.steps = min(self.steps, most_steps_of(header))

    def fix(self, name: str, value: float | str | None) -> None:
        """Fix one condition, or let it be drawn again (None)."""
        rest = {key: entry for key, entry in self.condition.items() if key != name}
        self.condition = rest if value is None else {**rest, name: value}

    def why_not(self, header: Header | None, *, is_running: bool = False) -> str:
        """Return why nothing can be generated now, in one line; empty when it can."""
        if header is None:
            return "No model is open: choose one on the Model tab."
        if header.config.denoiser is None:
            return (
                f"{header.card.name} is stage 1 alone and cannot generate: choose another model, or use it on the "
                "Reconstruct tab."
            )
        if any(n > w for n, w in zip(self.shape, header.config.window, strict=True)):
            window = " × ".join(map(str, header.config.window))
            return f"The model was trained on {window} voxels: choose a smaller size, or generate several volumes."
        if is_running:
            return "Volumes are being generated: wait for them or cancel."
        return ""

    def action(self) -> str:
        """Say what the button does."""
        return f"Generate {self.count} volume{'s' if self.count > 1 else ''}"

    def extent_text(self, header: Header | None) -> str:
        """Say how large the volumes are: a range where the voxel size is drawn."""
        if header is None:
            return ""
        low, high = self.voxel_size_range_um(header)
        sizes = [_span(n * a, n * b) for n, a, b in zip(self.shape, low, high, strict=True)]
        return f"{' × '.join(sizes)} µm (z, y, x)"

    def voxel_size_range_um(self, header: Header) -> tuple[Float3, Float3]:
        """Smallest and largest voxel size (z, y, x) that a volume can get, um."""
        low, high = header.config.voxel_size_range_um
        fixed = [self.condition.get(name) for name in VOXEL_AXES]
        z, y, x = (a if value is None else float(value) for a, value in zip(low, fixed, strict=True))
        top_z, top_y, top_x = (b if value is None else float(value) for b, value in zip(high, fixed, strict=True))
        return (z, y, x), (top_z, top_y, top_x)

    def to_request(self) -> dict[str, Any]:
        """Return the keyword arguments of `napari_vqldm.generate_steps`.

        Model and precision come from the Model tab. No camera: it records the noise-free volumes afterwards, with the
        same bits, see `napari_vqldm.plugin.state.camera.CameraState`.
        """
        return {
            "count": self.count,
            "shape": self.shape,
            "seed": self.seed,
            "steps": self.steps,
            "sampler": self.sampler,
            "condition": dict(self.condition) or None,
            "guidance_scale": self.guidance_scale,
            "batch": self.batch,
            "start": self.start,
        }


def samplers_of(header: Header) -> tuple[str, ...]:
    """Return the samplers that fit a model."""
    return SAMPLERS_OF[header.config.diffusion.objective]


def most_steps_of(header: Header) -> int:
    """Return the most steps that may be asked of a model."""
    diffusion = header.config.diffusion
    return MOST_FLOW_STEPS if diffusion.objective == "flow" else diffusion.num_train_timesteps


def _span(low: float, high: float) -> str:
    """One number, or two where they differ on the screen."""
    texts = [f"{value:.3g}" for value in (low, high)]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"
