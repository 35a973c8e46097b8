"""Encode a stack to its latent, decode a latent to a stack; `reconstruct` is exactly one after the other.

Encode: intensity estimate on the original grid, voxel size into the trained range, pad, network. Decode: network, crop,
back onto the original grid, back into the original units. The `Latent` carries all that the way back needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError, model_validator
from torch import Tensor

from napari_vqldm.checkpoint import Model
from napari_vqldm.coding import decode_latent, encode_volume
from napari_vqldm.config import Config, Float3, Int3
from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import CheckpointError, FileError, ShapeError, VqldmError
from napari_vqldm.files.latents import LatentFile, load_latent, save_latent
from napari_vqldm.files.provenance import describe_input, make_provenance
from napari_vqldm.intensity import IntensityScale, estimate_intensity
from napari_vqldm.resample import resample, resample_to, target_voxel_size
from napari_vqldm.tiles import MAX_VOXELS, Padding, pad_to_multiple
from napari_vqldm.volume import Volume, check_voxel_size, seal

# A code that is nearer than the second best by less than this part is reported as a near tie: other rounding, as of the
# same stack in other units, may choose the second best. No bound: how far rounding moves an encoder output depends on
# the weights and on the offset of the input. The tests hold the bundled codebook to it.
TIE_MARGIN = 1e-5


class _Geometry(Config):
    """What a latent file records besides the latent; JSON keeps every float exactly."""

    shape: Int3
    voxel_size_um: Float3
    coded_shape: Int3
    coded_voxel_size_um: Float3
    padding_before: Int3
    padding_after: Int3
    background: float
    scale: float
    num_ties: int
    name: str
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _grids_span_one_extent(self) -> Self:
        check_voxel_size(self.voxel_size_um)
        check_voxel_size(self.coded_voxel_size_um)
        if min(*self.shape, *self.coded_shape) < 2 or min(*self.padding_before, *self.padding_after) < 0:
            raise ValueError("expected grids of at least 2 voxels per axis and a padding of 0 or more")
        extent = [n * size for n, size in zip(self.shape, self.voxel_size_um, strict=True)]
        coded = [n * size for n, size in zip(self.coded_shape, self.coded_voxel_size_um, strict=True)]
        if not np.allclose(extent, coded, rtol=1e-6, atol=0):
            raise ValueError(f"expected grids that span one extent, got {extent} and {coded} um")
        return self


@dataclass(frozen=True, eq=False)
class Latent:
    """A stack in the latent space of one model, with the way back to its own grid and units.

    Attributes
    ----------
    family, model_name, weights_sha256 : str
        The model that it belongs to.
    latent : ndarray or None
        float32 (C, d, h, w), standardised; None where ``codes`` say it all.
    codes : ndarray or None
        int32 (d, h, w), code indices of a ``vq-ldm``.
    shape, voxel_size_um : tuple
        Grid (Z, Y, X) and voxel size (z, y, x), um, of the stack.
    coded_shape, coded_voxel_size_um : tuple
        The same on the grid that was coded, before padding.
    padding : Padding
        Voxels added to the coded grid.
    intensity : IntensityScale
        Units of the stack against filament units.
    num_ties : int
        Latent cells whose code is nearer by less than 1e-5 of the distance than any code that differs: rounding may
        flip them. 0 for ``ldm``.
    name : str
        Of the stack.
    provenance : mapping
        How the latent came to be.
    """

    family: str
    model_name: str
    weights_sha256: str
    latent: npt.NDArray[np.float32] | None
    codes: npt.NDArray[np.int32] | None
    shape: Int3
    voxel_size_um: Float3
    coded_shape: Int3
    coded_voxel_size_um: Float3
    padding: Padding
    intensity: IntensityScale
    num_ties: int = 0
    name: str = "volume"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> Int3:
        """Latent cells (d, h, w)."""
        array = self.codes if self.codes is not None else self.latent
        if array is None:
            raise ShapeError("expected a latent or code indices, got neither: encode the volume again")
        z, y, x = array.shape[-3:]
        return z, y, x

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write a latent file (``.safetensors``); raises `FileError` if it exists already and ``force`` is not set."""
        geometry = _Geometry(
            shape=self.shape,
            voxel_size_um=self.voxel_size_um,
            coded_shape=self.coded_shape,
            coded_voxel_size_um=self.coded_voxel_size_um,
            padding_before=self.padding.before,
            padding_after=self.padding.after,
            background=self.intensity.background,
            scale=self.intensity.scale,
            num_ties=self.num_ties,
            name=self.name,
            provenance=dict(self.provenance),
        )
        file = LatentFile(
            family=self.family,
            weights_sha256=self.weights_sha256,
            model_name=self.model_name,
            latent=self.latent,
            codes=self.codes,
            meta=geometry.model_dump(mode="json"),
        )
        save_latent(Path(path), file, force=force)
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a latent file.

        Raises
        ------
        FileError
            If it is missing, damaged or not a latent file of this package.
        """
        file = load_latent(Path(path))
        try:
            g = _Geometry.model_validate(file.meta)
            intensity = IntensityScale(g.background, g.scale)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise FileError(f"{path}: damaged latent file: {where}: {first['msg']}: encode the volume again") from None
        except VqldmError as error:
            raise FileError(f"{path}: damaged latent file: {error}: encode the volume again") from None
        return cls(
            file.family,
            file.model_name,
            file.weights_sha256,
            file.latent,
            file.codes,
            g.shape,
            g.voxel_size_um,
            g.coded_shape,
            g.coded_voxel_size_um,
            Padding(g.padding_before, g.padding_after),
            intensity,
            g.num_ties,
            g.name,
            g.provenance,
        )


@dataclass(frozen=True)
class ReconstructionStep:
    """Progress of `encode_steps`, `decode_steps` and `reconstruct_steps`: one tile.

    ``latent`` is set by the last step of stage ``encode``, with ``posterior_deviation`` for ``ldm`` ((C, d, h, w),
    standardised, what the encoder leaves open), ``volume`` by the last step of stage ``decode``.
    """

    index: int
    total: int
    stage: Literal["encode", "decode"]
    latent: Latent | None = None
    volume: Volume | None = None
    posterior_deviation: npt.NDArray[np.float32] | None = None


def encode(
    model: Model, volume: Volume, *, intensity: IntensityScale | None = None, max_voxels: int = MAX_VOXELS
) -> Latent:
    """Encode a stack.

    Parameters
    ----------
    model : Model
        From `load`.
    volume : Volume
        Any size from 2 voxels per axis, any units, any voxel size.
    intensity : IntensityScale, optional
        Background and brightness of one filament. None: estimated from the stack.
    max_voxels : int
        Voxels of the coded grid that go through the network at once, halo included: fewer take less memory and more
        time. Tiles agree with the whole up to rounding.

    Returns
    -------
    Latent
        Posterior mean (``ldm``) or code indices (``vq-ldm``), and the way back.

    Raises
    ------
    VolumeError
        If the stack is constant.
    ShapeError
        If it has to be cut for a model that takes statistics over the whole volume.
    """
    steps = encode_steps(model, volume, intensity=intensity, max_voxels=max_voxels)
    return next(s.latent for s in steps if s.latent is not None)


def decode(model: Model, latent: Latent, *, max_voxels: int = MAX_VOXELS) -> Volume:
    """Decode a latent to a stack on the grid and in the units of the one that was encoded; ``max_voxels`` as there.

    Raises
    ------
    CheckpointError
        If the latent belongs to other weights.
    ShapeError
        If the latent contradicts itself, or has to be cut for a model that takes statistics over the whole volume.
    """
    return next(s.volume for s in decode_steps(model, latent, max_voxels=max_voxels) if s.volume is not None)


def reconstruct(
    model: Model, volume: Volume, *, intensity: IntensityScale | None = None, max_voxels: int = MAX_VOXELS
) -> Volume:
    """Return ``decode(model, encode(model, volume))``, bit for bit; parameters and errors are theirs."""
    latent = encode(model, volume, intensity=intensity, max_voxels=max_voxels)
    return decode(model, latent, max_voxels=max_voxels)


def encode_steps(
    model: Model, volume: Volume, *, intensity: IntensityScale | None = None, max_voxels: int = MAX_VOXELS
) -> Iterator[ReconstructionStep]:
    """Stepwise twin of `encode`: one step per tile; close it to cancel."""
    is_estimated = intensity is None
    intensity = intensity or estimate_intensity(volume.data)
    target = target_voxel_size(volume.voxel_size_um, *model.config.voxel_size_range_um)
    coded = resample(intensity.apply(volume.data), volume.voxel_size_um, target)
    padded, padding = pad_to_multiple(coded, model.space.autoencoder.downsampling_factor)
    for step in encode_volume(model.space, torch.from_numpy(padded)[None, None], max_voxels=max_voxels):
        latent = deviation = None
        if step.result is not None:
            result = step.result
            deviation = None if result.standard_deviation is None else result.standard_deviation[0].numpy()
            num_ties = 0 if result.margin is None else int((result.margin < TIE_MARGIN).sum())
            provenance = make_provenance(
                "encode",
                environment=describe_environment(str(model.device)),
                model=model.name,
                family=model.config.family,
                weights_sha256=model.weights_sha256,
                intensity={"background": intensity.background, "scale": intensity.scale},
                is_intensity_estimated=is_estimated,
                max_voxels=max_voxels,
                num_ties=num_ties,
                num_cells=result.latent[0, 0].numel(),
                **describe_input(volume),
                name=volume.name,
            )
            coded_voxel_size = _per_axis(volume.extent_um, coded.shape)
            latent = Latent(
                model.config.family,
                model.name,
                model.weights_sha256,
                *_content(model, result.latent),
                volume.shape,
                volume.voxel_size_um,
                _int3(coded.shape),
                coded_voxel_size,
                padding,
                intensity,
                num_ties,
                volume.name,
                provenance,
            )
        yield ReconstructionStep(step.index, step.total, "encode", latent=latent, posterior_deviation=deviation)


def decode_steps(model: Model, latent: Latent, *, max_voxels: int = MAX_VOXELS) -> Iterator[ReconstructionStep]:
    """Stepwise twin of `decode`: one step per tile; close it to cancel."""
    for step in decode_latent(model.space, latent_tensor(model, latent), max_voxels=max_voxels):
        volume = None
        if step.result is not None:
            data = latent.padding.crop(step.result[0, 0]).contiguous().numpy()
            data = latent.intensity.invert(resample_to(data, latent.shape))
            provenance = make_provenance(
                "decode",
                environment=describe_environment(str(model.device)),
                model=model.name,
                family=model.config.family,
                weights_sha256=model.weights_sha256,
                max_voxels=max_voxels,
                latent=dict(latent.provenance),
            )
            volume = seal(Volume(data, latent.voxel_size_um, provenance, latent.name))
        yield ReconstructionStep(step.index, step.total, "decode", volume=volume)


def reconstruct_steps(
    model: Model, volume: Volume, *, intensity: IntensityScale | None = None, max_voxels: int = MAX_VOXELS
) -> Iterator[ReconstructionStep]:
    """Stepwise twin of `reconstruct`: the tiles of `encode`, then those of `decode`.

    The number of tiles to decode is known when encoding is done; until then ``total`` counts as many again.
    """
    done, latent = 0, None
    for step in encode_steps(model, volume, intensity=intensity, max_voxels=max_voxels):
        done, latent = step.index + 1, step.latent
        yield ReconstructionStep(step.index, 2 * step.total, "encode", latent=latent)
    if latent is not None:
        for step in decode_steps(model, latent, max_voxels=max_voxels):
            yield ReconstructionStep(done + step.index, done + step.total, "decode", volume=step.volume)


def latent_tensor(model: Model, latent: Latent) -> Tensor:
    """Return the standardised latent (1, C, d, h, w) on the model's device, after checking that it belongs there.

    Raises
    ------
    CheckpointError
        If family or weights differ from the model's.
    ShapeError
        If grid, padding and coded shape contradict each other, or a code is not in the codebook.
    """
    if latent.family != model.config.family or latent.weights_sha256 != model.weights_sha256:
        raise CheckpointError(
            f"this latent belongs to model {latent.model_name!r} ({latent.family}, weights "
            f"{latent.weights_sha256[:12]}), not to {model.name!r} ({model.config.family}, weights "
            f"{model.weights_sha256[:12]}): give that checkpoint, or encode the volume again"
        )
    padding = latent.padding
    padded = [n + b + a for n, b, a in zip(latent.coded_shape, padding.before, padding.after, strict=True)]
    factor = model.space.autoencoder.downsampling_factor
    if [n * f for n, f in zip(latent.grid, factor, strict=True)] != padded:
        raise ShapeError(
            f"expected a latent grid of {padded} / {factor} cells, got {latent.grid}: "
            "the latent is damaged, encode the volume again"
        )
    if latent.codes is not None:
        size = model.space.quantizer.codebook.shape[0]
        if latent.codes.min() < 0 or latent.codes.max() >= size:
            raise ShapeError(
                f"expected code indices from 0 to {size - 1}, got {latent.codes.min()} to "
                f"{latent.codes.max()}: the latent is damaged, encode the volume again"
            )
        codes = torch.from_numpy(latent.codes.astype(np.int64))[None].to(model.device)
        with torch.no_grad():
            return model.space.embed_codes(codes)
    if latent.latent is None or latent.latent.shape[0] != model.space.autoencoder.latent_channels:
        raise ShapeError(
            f"expected a latent of {model.space.autoencoder.latent_channels} channels: "
            "the latent is damaged, encode the volume again"
        )
    return torch.from_numpy(latent.latent)[None].to(model.device)


def _content(model: Model, latent: Tensor) -> tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.int32] | None]:
    """Return what a `Latent` stores of (1, C, d, h, w): the numbers, or the codes that stand for them."""
    if model.config.family == "ldm":
        return latent[0].numpy(), None
    with torch.no_grad():
        codes = model.space.code_indices(latent.to(model.device))
    return None, codes[0].cpu().numpy().astype(np.int32)


def _per_axis(extent: Float3, shape: tuple[int, ...]) -> Float3:
    z, y, x = (length / n for length, n in zip(extent, shape, strict=True))
    return z, y, x


def _int3(shape: tuple[int, ...]) -> Int3:
    z, y, x = shape
    return z, y, x
