"""What one code paints: its atom, the mean change of the decoded volume when it takes the place of background.

A decoder is not linear, so that a code paints something else in every surrounding: the mean over real surroundings is
what can be shown of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import need_codebook
from napari_vqldm.coding import decode_latent
from napari_vqldm.errors import CheckpointError, ConfigError, VolumeError
from napari_vqldm.inside.codes import CodeMap
from napari_vqldm.inside.table import check_code
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Float3, Int3, Volume

OCCURRENCES = 16  # by default; a mean over fewer still shows much of its surroundings

Block = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Atom:
    """What a code paints.

    Attributes
    ----------
    code : int
        Its index.
    volume : Volume
        Mean change of the decoded volume, filament units, the cell of the code in the middle. Zero where no occurrence
        had voxels: beyond the faces of all stacks.
    num_occurrences : int
        Over which it was averaged.
    num_found : int
        Occurrences in all contexts; some may not be needed.
    background_code : int
        What stood in its place for comparison. The atom of this code itself is zero.
    reach : tuple of int
        Cells (z, y, x) on each side of the middle one that are shown.
    """

    code: int
    volume: Volume
    num_occurrences: int
    num_found: int
    background_code: int
    reach: Int3

    @property
    def text(self) -> str:
        """One line for a caption: how good a mean this is."""
        fewer = "" if self.num_occurrences >= OCCURRENCES else f", fewer than {OCCURRENCES}"
        if self.code == self.background_code:
            return "the commonest background code: others are compared with it"
        return f"mean over {self.num_occurrences} of {self.num_found} occurrences{fewer}"


@dataclass(frozen=True)
class AtomStep:
    """One occurrence is decoded; the last step carries the atom."""

    index: int
    total: int
    result: Atom | None


def atom(
    model: Model,
    code: int,
    contexts: Sequence[CodeMap],
    *,
    occurrences: int = OCCURRENCES,
    reach: int | None = None,
    background_code: int | None = None,
    max_voxels: int = MAX_VOXELS,
) -> Atom:
    """Average decode(with the code) - decode(with background at that one cell) over places where the code stands.

    Only the neighbourhood that matters is decoded: what is returned equals, up to rounding, what decoding the whole
    stacks twice would give.

    Parameters
    ----------
    model : Model
        A ``vq-ldm``.
    code : int
        From 0 to K - 1.
    contexts : sequence of CodeMap
        Code maps of real stacks, from `napari_vqldm.inside.codes.code_map`, of this model.
    occurrences : int
        How many to average over, spread evenly over all; fewer where there are fewer. Cells that hold padding count
        only where the others do not suffice.
    reach : int, optional
        Cells on each side of the middle one to show. None: the whole receptive field of the decoder; fewer cells take
        less time.
    background_code : int, optional
        What to compare with. None: the commonest code of the background cells of the contexts.
    max_voxels : int
        As in `napari_vqldm.reconstruct.decode`.

    Returns
    -------
    Atom

    Raises
    ------
    CheckpointError
        If the model has no codebook, or a context belongs to other weights.
    ConfigError
        If there is no such code, or ``occurrences`` or ``reach`` is below 1.
    VolumeError
        If the code stands nowhere in the contexts, or they hold no background.
    """
    steps = atom_steps(
        model,
        code,
        contexts,
        occurrences=occurrences,
        reach=reach,
        background_code=background_code,
        max_voxels=max_voxels,
    )
    return next(step.result for step in steps if step.result is not None)


def atom_steps(
    model: Model,
    code: int,
    contexts: Sequence[CodeMap],
    *,
    occurrences: int = OCCURRENCES,
    reach: int | None = None,
    background_code: int | None = None,
    max_voxels: int = MAX_VOXELS,
) -> Iterator[AtomStep]:
    """Stepwise twin of `atom`: one step per occurrence; close it to cancel."""
    need_codebook(model)
    size = model.space.quantizer.codebook.shape[0]
    check_code(code, size)
    if occurrences < 1 or (reach is not None and reach < 1):
        raise ConfigError(f"expected 1 or more occurrences and a reach of 1 or more, got {occurrences} and {reach}")
    if any(context.latent.weights_sha256 != model.weights_sha256 for context in contexts):
        raise CheckpointError(f"a code map belongs to another model than {model.name!r}: make it again with this one")
    background = commonest_background(contexts) if background_code is None else background_code
    check_code(background, size)
    found = _find(code, contexts)
    if not found:
        raise VolumeError(
            f"code {code} stands nowhere in {len(contexts)} stacks: an atom is measured where its code is used: "
            "give stacks that use it"
        )
    return _steps(model, code, background, _spread(contexts, found, occurrences), len(found), reach, max_voxels)


def commonest_background(contexts: Sequence[CodeMap]) -> int:
    """Return the code that most background cells of all contexts have; the lowest of equals.

    Raises
    ------
    VolumeError
        If there is no background cell.
    """
    counts = sum(context.usage.background.counts for context in contexts)
    if not np.any(counts):
        raise VolumeError("no cell of these stacks is background: give a stack with empty space, or a background code")
    return int(np.argmax(counts))


Place = tuple[int, tuple[int, int, int]]  # number of the context, cell (z, y, x)


def _find(code: int, contexts: Sequence[CodeMap]) -> list[Place]:
    return [
        (number, (int(z), int(y), int(x)))
        for number, context in enumerate(contexts)
        for z, y, x in np.argwhere(context.codes == code)
    ]


def _spread(contexts: Sequence[CodeMap], found: list[Place], most: int) -> list[tuple[CodeMap, Int3]]:
    """Choose evenly among all places, those without padding first."""
    whole = [place for place in found if not contexts[place[0]].is_padded[place[1]]]
    if len(whole) < most:
        whole = found
    picks = np.linspace(0, len(whole) - 1, min(most, len(whole))).round().astype(int)
    return [(contexts[whole[pick][0]], whole[pick][1]) for pick in picks]


def _steps(
    model: Model,
    code: int,
    background: int,
    chosen: list[tuple[CodeMap, Int3]],
    num_found: int,
    reach: int | None,
    max_voxels: int,
) -> Iterator[AtomStep]:
    factor = model.space.autoencoder.downsampling_factor
    field = model.space.autoencoder.decoder_halo
    shown = _reach(chosen, field, reach, model.space.autoencoder.is_tileable)
    shape = _scaled((2 * r + 1 for r in shown), factor)
    total, count = np.zeros(shape), np.zeros(shape, np.int32)
    for index, (context, cell) in enumerate(chosen):
        change, place = _change(model, context, cell, background, shown, max_voxels)
        total[place] += change
        count[place] += 1
        result = None
        if index == len(chosen) - 1:
            mean = (total / np.maximum(count, 1)).astype(np.float32)
            volume = Volume(mean, _voxel_size(chosen), {}, f"atom of code {code}")
            result = Atom(code, volume, len(chosen), num_found, background, shown)
        yield AtomStep(index, len(chosen), result)


def _change(
    model: Model, context: CodeMap, cell: Int3, background: int, shown: Int3, max_voxels: int
) -> tuple[npt.NDArray[np.float32], Block]:
    """Decode the surroundings of a cell with and without its code; return the change and its place in the atom."""
    autoencoder = model.space.autoencoder
    factor, field = autoencoder.downsampling_factor, autoencoder.decoder_halo
    grid = context.codes.shape
    if not autoencoder.is_tileable:  # every voxel depends on every cell
        field = (grid[0], grid[1], grid[2])
    axes = list(zip(cell, grid, shown, field, factor, strict=True))
    # What is shown changes with cells within the receptive field of its voxels; at the faces the network pads as it
    # does for the whole.
    read = [slice(max(0, c - r - h), min(n, c + r + h + 1)) for c, n, r, h, _ in axes]
    keep = [slice(max(0, c - r), min(n, c + r + 1)) for c, n, r, _, _ in axes]
    with_code = context.codes[tuple(read)]
    without = with_code.copy()
    without[tuple(c - part.start for c, part in zip(cell, read, strict=True))] = background
    change = _decode(model, with_code, max_voxels) - _decode(model, without, max_voxels)
    inner = _block((k.start - r.start, k.stop - r.start) for k, r in zip(keep, read, strict=True))
    outer = _block((k.start - c + r, k.stop - c + r) for k, (c, _, r, _, _) in zip(keep, axes, strict=True))
    return change[_voxels(inner, factor)], _voxels(outer, factor)


def _decode(model: Model, codes: npt.NDArray[np.int32], max_voxels: int) -> npt.NDArray[np.float32]:
    """Return what codes (d, h, w) decode to (Z, Y, X), filament units."""
    indices = torch.from_numpy(codes.astype(np.int64))[None].to(model.device)
    with torch.no_grad():
        latent = model.space.embed_codes(indices)
    steps = decode_latent(model.space, latent, max_voxels=max_voxels)
    decoded = next(step.result for step in steps if step.result is not None)
    return np.asarray(decoded[0, 0].numpy(), np.float32)


def _reach(chosen: list[tuple[CodeMap, Int3]], field: Int3, reach: int | None, is_tileable: bool) -> Int3:
    """Cells shown on each side: at most the receptive field, which is the whole grid for some networks."""
    if not is_tileable:
        z, y, x = (max(context.codes.shape[axis] for context, _ in chosen) for axis in range(3))
        field = (z, y, x)
    z, y, x = (h if reach is None else min(reach, h) for h in field)
    return z, y, x


def _voxel_size(chosen: list[tuple[CodeMap, Int3]]) -> Float3:
    """Mean voxel size of the coded grids: a model takes a narrow range of them."""
    z, y, x = np.mean([context.latent.coded_voxel_size_um for context, _ in chosen], axis=0)
    return float(z), float(y), float(x)


def _block(edges: Iterator[tuple[int, int]]) -> Block:
    z, y, x = (slice(start, stop) for start, stop in edges)
    return z, y, x


def _voxels(block: Block, factor: Int3) -> Block:
    return _block((s.start * f, s.stop * f) for s, f in zip(block, factor, strict=True))


def _scaled(cells: Iterator[int], factor: Int3) -> Int3:
    z, y, x = (n * f for n, f in zip(cells, factor, strict=True))
    return z, y, x
