"""What the parts of the Interpolate tab hand to each other: ends, frames, and the way between. No Qt, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from napari_vqldm.pictures import Gray
from napari_vqldm.plugin.inference.engine import ModelSpec
from napari_vqldm.plugin.layers.add import Limits
from napari_vqldm.plugin.layers.source import LayerSource
from napari_vqldm.plugin.state.interpolate import Quality
from napari_vqldm.volume import Volume

if TYPE_CHECKING:
    from napari_vqldm.interpolate import CodeChange
    from napari_vqldm.recipe import FileInput
    from napari_vqldm.reconstruct import Latent

PathKind = Literal["linear", "slerp"]


@dataclass(frozen=True)
class Way:
    """Which way between two ends.

    Attributes
    ----------
    kind : str
        ``linear`` or ``slerp``.
    snap : bool
        Move every vector to its nearest code (``vq-ldm``).
    """

    kind: PathKind = "linear"
    snap: bool = True


@dataclass(frozen=True, eq=False)
class EndRequest:
    """One end, to be read or sampled: exactly one of both is set.

    Attributes
    ----------
    source : LayerSource or None
        A layer.
    seed : mapping or None
        Keyword arguments of `napari_vqldm.generate`.
    """

    source: LayerSource | None = None
    seed: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class EncodedEnd:
    """One end in the latent space of a model.

    Attributes
    ----------
    latent : Latent
        Encoded.
    voxels_sha256 : str
        Fingerprint of the voxels that were encoded.
    file : FileInput or None
        Where these voxels lie in a file, when they do.
    picture : ndarray
        Thumbnail, uint8 (H, W).
    """

    latent: Latent
    voxels_sha256: str
    file: FileInput | None
    picture: Gray


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a way, ready to be shown.

    Attributes
    ----------
    t : float
        Where on the way.
    volume : Volume
        Its voxels; the record of a preview is empty.
    quality : str
        ``full`` or ``preview``.
    seconds : float
        What it took.
    change : CodeChange or None
        How many codes differ from those of the ends; None for ``ldm`` and between seeds.
    """

    t: float
    volume: Volume
    quality: Quality
    seconds: float = 0.0
    change: CodeChange | None = None

    @property
    def max_voxels(self) -> int | None:
        """Voxels that went through the decoder at once, as its record says; None for previews and between seeds."""
        most = self.volume.provenance.get("request", {}).get("max_voxels")
        return most if isinstance(most, int) else None


@dataclass(frozen=True, eq=False)
class EncodedWay:
    """Two encoded ends and what is known after both were decoded once.

    Attributes
    ----------
    spec : ModelSpec
        Model that the latents belong to, and how it computes.
    weights_sha256, family : str
        Of that model.
    a, b : EncodedEnd
        The ends.
    frames : tuple of Frame
        At t = 0 and t = 1.
    limits : tuple of float
        Contrast that fits both.
    full_s : float
        Seconds of a full decode.
    max_voxels : int or None
        Voxels at once for which there was memory; None: as many as the core takes.
    """

    spec: ModelSpec
    weights_sha256: str
    family: str
    a: EncodedEnd
    b: EncodedEnd
    frames: tuple[Frame, Frame]
    limits: Limits
    full_s: float
    max_voxels: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What every frame depends on besides t and the way."""
        return (self.weights_sha256, self.spec, self.a.voxels_sha256, self.b.voxels_sha256)


@dataclass(frozen=True, eq=False)
class SampledFrame:
    """A frame between two seeds is sampled: a step of its job.

    Attributes
    ----------
    index, total : int
        Progress, as of every step.
    frame : Frame
        The frame.
    limits : tuple of float
        Contrast that fits it.
    picture : ndarray or None
        Thumbnail of an end.
    """

    index: int
    total: int
    frame: Frame
    limits: Limits
    picture: Gray | None = None
