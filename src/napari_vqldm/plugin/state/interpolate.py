"""What the Interpolate tab holds: two ends, the way between them, and what may be done with it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from psygnal import SignalGroupDescriptor

from napari_vqldm.card import Header
from napari_vqldm.condition_ranges import middle_voxel_size, voxel_size_conditions
from napari_vqldm.config import SAMPLERS_OF
from napari_vqldm.plugin.state.knobs import knob
from napari_vqldm.volume import Float3, Int3

Mode = Literal["layers", "mixed", "seeds"]
Quality = Literal["full", "preview"]

NUM_FRAMES = (5, 9, 17)  # 2^n + 1: bisection reaches every frame
LIVE_S = 0.06  # a full decode that is faster follows the slider itself
REST_MS = 150  # a slider that rests so long gets the full frame
IDLE_MS = 500  # a slider that rests so long gets its neighbors decoded, too
STEPS_OF_T = 1000  # t is rounded to so many steps, so that frames can be found again
NEIGHBOR = 0.01  # t of one arrow key
PLAY_STEPS = 20  # frames of one way when everything can be decoded
_SAME_SIZE = 1e-3  # relative difference of voxel sizes that the core accepts
VOXEL_CONDITIONS = ("voxel_size_z_um", "voxel_size_xy_um")


@dataclass(frozen=True)
class End:
    """One end of the way, as far as it is known before a voxel is read.

    Attributes
    ----------
    is_seed : bool
        True: a volume sampled from ``seed``; False: a layer.
    seed : int
        From 0 to 2**64 - 1.
    name : str
        Of the layer; empty when none is chosen.
    shape, voxel_size_um : tuple or None
        Voxels (Z, Y, X) of the layer and their size (z, y, x), um; None when unknown.
    time, channel : int or None
        Which one of a layer with several.
    reason : str
        Why the layer cannot be used; empty when it can.
    """

    is_seed: bool = False
    seed: int = 0
    name: str = ""
    shape: Int3 | None = None
    voxel_size_um: Float3 | None = None
    time: int | None = None
    channel: int | None = None
    reason: str = ""

    @property
    def label(self) -> str:
        """What the user calls it."""
        return f"seed {self.seed}" if self.is_seed else self.name


@dataclass
class InterpolateState:
    """Choices of the Interpolate tab.

    Attributes
    ----------
    a, b : End
        Both ends.
    t : float
        Where on the way, 0 is ``a`` and 1 is ``b``.
    typed_voxel_size_um : tuple of float
        (z, y, x) that the user entered for layers that state none; 0 where he did not.
    kind, snap
        The way: see `napari_vqldm.interpolate`.
    num_frames, same_voxel_size, steps, sampler, guidance_scale
        Between seeds only.
    export_frames : int
        Frames of an exported way, both ends included.
    fps : float
        Frames per second of the player.
    is_ping_pong : bool
        The player goes back and forth.
    """

    a: End = End()
    b: End = End()
    t: float = 0.0
    typed_voxel_size_um: Float3 = (0.0, 0.0, 0.0)
    kind: str = knob(
        "linear",
        label="Path",
        tooltip="linear: a straight line between the latents of both ends. slerp: an arc that keeps their strength, "
        "which suits two seeds.",
        choices=("linear", "slerp"),
    )
    snap: bool = knob(
        True,
        label="Snap to codes",
        tooltip="vq-ldm only. On: every latent cell is moved to the nearest code of the codebook, as the model was "
        "trained. Off: frames lie between codes.",
    )
    num_frames: int = knob(
        5,
        label="Frames",
        tooltip="Frames that are sampled between two seeds, both ends included. Each takes as long as a new sample.",
        choices=NUM_FRAMES,
    )
    same_voxel_size: bool = knob(
        True,
        label="One voxel size",
        tooltip="On: all frames have the middle of the trained voxel sizes. Off: each seed draws its own, and frames "
        "go from one to the other.",
    )
    steps: int | None = knob(
        None,
        label="Steps",
        tooltip="Denoising steps of each frame. More steps: more time, finer detail.",
        min=1,
        max=1000,
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
        tooltip="How strictly frames follow the asked conditions; 1 is off.",
        min=0.0,
        max=20.0,
        step=0.1,
        nullable="model's default",
        start=1.0,
    )
    export_frames: int = knob(
        9,
        label="Export frames",
        tooltip="Frames of the 4D layer or of the files, both ends included.",
        min=2,
        max=101,
        step=1,
    )
    fps: float = knob(
        8.0,
        label="Speed",
        tooltip="Frames per second of the player, as far as this machine decodes so fast.",
        min=1.0,
        max=30.0,
        step=1.0,
        unit="frames/s",
    )
    is_ping_pong: bool = knob(
        True, label="Back and forth", tooltip="On: A to B and back. Off: A to B, then from the start."
    )

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    @property
    def mode(self) -> Mode:
        """Two ``layers``, two ``seeds``, or one of each."""
        if self.a.is_seed and self.b.is_seed:
            return "seeds"
        return "mixed" if self.a.is_seed or self.b.is_seed else "layers"

    @property
    def needs_voxel_size(self) -> bool:
        """True when a chosen layer states no voxel size, so that the user has to enter it."""
        layers = [end for end in (self.a, self.b) if not end.is_seed and end.name and not end.reason]
        return any(layer.voxel_size_um is None for layer in layers)

    def swap(self) -> None:
        """Exchange the ends."""
        self.a, self.b = self.b, self.a

    def voxel_size_of(self, end: End) -> Float3 | None:
        """Voxel size (z, y, x) of a layer, um: its own, else the entered one; None when it is unknown."""
        if end.voxel_size_um is not None:
            return end.voxel_size_um
        return self.typed_voxel_size_um if all(size > 0 for size in self.typed_voxel_size_um) else None

    def problem(self, header: Header | None) -> str:
        """Say why nothing can be computed yet and what to do; empty when it can."""
        if header is None:
            return "No model is open: choose one on the Model tab."
        for word, end in (("A", self.a), ("B", self.b)):
            if problem := self._problem_of(word, end, header):
                return problem
        if self.mode == "seeds":
            return "Both ends are the same seed: choose another one." if self.a.seed == self.b.seed else ""
        if self.mode == "mixed":
            return self._problem_of_mixed(header)
        return self._problem_of_pair()

    def to_request(self, header: Header | None = None) -> dict[str, Any]:
        """Return the keyword arguments of `napari_vqldm.interpolate`; those of encoded ends lack ``a`` and ``b``."""
        request: dict[str, Any] = {"t": self.t, "kind": self.kind, "snap": self.snap}
        if self.mode == "seeds":
            request |= {
                "a": self.a.seed,
                "b": self.b.seed,
                "steps": self.steps,
                "sampler": self.sampler,
                "condition": self.condition(header),
                "guidance_scale": self.guidance_scale,
            }
        return request

    def condition(self, header: Header | None) -> dict[str, float] | None:
        """Return the voxel size that all frames between two seeds share, or None to draw it."""
        if header is None or not self.same_voxel_size:
            return None
        return middle_voxel_size(header.config) or None

    def seed_request(self, header: Header) -> dict[str, Any]:
        """Return the keyword arguments of `napari_vqldm.generate` for the seed that meets a layer: its grid."""
        seed, layer = (self.a, self.b) if self.a.is_seed else (self.b, self.a)
        size = self.voxel_size_of(layer)
        condition = dict(zip(VOXEL_CONDITIONS, (size[0], size[2]), strict=True)) if size is not None else {}
        known = voxel_size_conditions(header.config)
        return {
            "count": 1,
            "shape": layer.shape,
            "seed": seed.seed,
            "steps": self.steps,
            "sampler": self.sampler,
            "guidance_scale": self.guidance_scale,
            "condition": {name: value for name, value in condition.items() if name in known} or None,
        }

    def action(self) -> str:
        """Say what the button does."""
        return {
            "layers": "Encode both ends",
            "mixed": "Sample the seed, then encode both ends",
            "seeds": f"Sample {self.num_frames} frames",
        }[self.mode]

    def _problem_of(self, word: str, end: End, header: Header) -> str:
        """Problem of one end alone."""
        if end.is_seed:
            if header.config.denoiser is None:
                return f"{header.card.name} cannot sample seeds: choose a layer for end {word}, or another model."
            return ""
        if end.reason:
            return f"End {word}: {end.reason}."
        if not end.name or end.shape is None:
            return f"End {word}: choose an image layer, or a seed."
        if self.voxel_size_of(end) is None:
            return f"End {word}: {end.name!r} states no voxel size: enter it in micrometres."
        return ""

    def _problem_of_pair(self) -> str:
        a, b = self.a, self.b
        if (a.name, a.time, a.channel) == (b.name, b.time, b.channel):
            return "Both ends are the same volume: choose another layer, time point or channel for one of them."
        if a.shape != b.shape:
            return (
                f"The ends differ in size: {a.name!r} has {_times(a.shape)}, {b.name!r} {_times(b.shape)} voxels: "
                "crop the larger one."
            )
        first, second = self.voxel_size_of(a), self.voxel_size_of(b)
        if first is None or second is None or np.allclose(first, second, rtol=_SAME_SIZE, atol=0):
            return ""
        return (
            f"The ends differ in voxel size: {_um(first)} and {_um(second)}: choose two of one voxel size. "
            "The Sample tab gives all volumes the middle of the trained voxel sizes, unless that is changed under "
            "Conditions."
        )

    def _problem_of_mixed(self, header: Header) -> str:
        layer = self.b if self.a.is_seed else self.a
        window, shape, size = header.config.window, layer.shape, self.voxel_size_of(layer)
        if shape is None or size is None:
            return ""
        if any(n > w for n, w in zip(shape, window, strict=True)):
            return (
                f"A seed gives at most {_times(window)} voxels, {layer.name!r} has {_times(shape)}: "
                "crop the layer first."
            )
        ranges = voxel_size_conditions(header.config)
        if len(ranges) < len(VOXEL_CONDITIONS):
            return ""
        (z_low, z_high), (low, high) = (ranges[name] for name in VOXEL_CONDITIONS)
        is_square = math.isclose(size[1], size[2], rel_tol=_SAME_SIZE)
        if not (is_square and _within(size[0], z_low, z_high) and _within(size[2], low, high)):
            return (
                f"{layer.name!r} has voxels of {_um(size)}, a seed gives {z_low:g} to {z_high:g} um in z and "
                f"{low:g} to {high:g} um in y and x: choose a layer within, or two layers."
            )
        return ""


def rounded_t(t: float) -> float:
    """Return t on the grid on which frames are kept, within 0 and 1."""
    return round(min(max(t, 0.0), 1.0) * STEPS_OF_T) / STEPS_OF_T


def even_ts(num: int) -> list[float]:
    """Return evenly spaced t, both ends included."""
    return [float(t) for t in np.linspace(0.0, 1.0, num)]


def bisection_order(num: int) -> list[int]:
    """Return 0 to num - 1 with the ends first, then the middle, then the quarters, and so on."""
    order = [0, num - 1] if num > 1 else [0]
    gaps = [(0, num - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order


def nearest(t: float, ready: Iterable[float]) -> float | None:
    """Return the ready t that is nearest, or None when there is none."""
    return min(ready, key=lambda other: (abs(other - t), other), default=None)


def quality_for(is_moving: bool, full_s: float) -> Quality:
    """Decide what a request gets: a preview only while the slider moves and the decoder is too slow to follow."""
    return "preview" if is_moving and full_s > LIVE_S else "full"


def next_place(place: int, direction: int, num: int, is_ping_pong: bool) -> tuple[int, int]:
    """Return the next of ``num`` places of the player and its direction."""
    if num < 2:
        return 0, 1
    if 0 <= place + direction < num:
        return place + direction, direction
    return (place - direction, -direction) if is_ping_pong else (0, 1)


def _within(value: float, low: float, high: float) -> bool:
    return low * (1 - 1e-6) <= value <= high * (1 + 1e-6)


def _times(shape: Int3 | None) -> str:
    return " x ".join(map(str, shape or ()))


def _um(size: Float3) -> str:
    return " x ".join(f"{value:.4g}" for value in size) + " um"
