"""What one code paints: its atom, the mean change of the decoded volume when it takes the place of background.

A decoder is not linear, so that a code paints something else in every surrounding: the mean over real surroundings is
what can be shown of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_vqldm.checkpoint import Model
from napari_vqldm.codebook import need_codebook
from napari_vqldm.errors import CheckpointError, ConfigError, VolumeError
from napari_vqldm.inside.codes import CodeMap
from napari_vqldm.inside.swaps import swap_all
from napari_vqldm.inside.table import check_code
from napari_vqldm.tiles import MAX_VOXELS
from napari_vqldm.volume import Float3, Int3, Volume

OCCURRENCES = 16  # by default; a mean over fewer still shows much of its surroundings
# Cells on each side of the middle that pictures show: of the code measured (50 of the bundled model, 16 places)
# 99.998 % of the energy lies within, and farther voxels change by less than 0.0004 of a filament's peak.
MIDDLE = 3


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
    is_whole : bool
        Whether that is the whole receptive field of the decoder.
    """

    code: int
    volume: Volume
    num_occurrences: int
    num_found: int
    background_code: int
    reach: Int3
    is_whole: bool

    @property
    def middle(self) -> Volume:
        """What pictures show: the receptive field is mostly empty, and what is painted would be small in it."""
        cells = [2 * r + 1 for r in self.reach]
        factor = [n // c for n, c in zip(self.volume.shape, cells, strict=True)]
        cuts = [max(0, r - MIDDLE) * f for r, f in zip(self.reach, factor, strict=True)]
        inner = tuple(slice(cut, n - cut) for cut, n in zip(cuts, self.volume.shape, strict=True))
        return self.volume.with_data(self.volume.data[inner])

    @property
    def text(self) -> str:
        """One line for a caption: how good a mean this is."""
        fewer = "" if self.num_occurrences >= OCCURRENCES else f", fewer than {OCCURRENCES}"
        if self.code == self.background_code:
            return "the commonest background code: others are compared with it"
        return f"mean over {self.num_occurrences} of {self.num_found} occurrences{fewer}"


@dataclass(frozen=True)
class AtomStep:
    """One occurrence is averaged; the last step carries the atom.

    Occurrences that lie far apart are decoded together: some steps take much longer than others.
    """

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
        Cells on each side of the middle one to return. None: the whole receptive field of the decoder; fewer cells
        take less time.
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
    is_tileable = model.space.autoencoder.is_tileable
    field = model.space.autoencoder.decoder_halo if is_tileable else _largest(chosen)
    shown = _reach(field, reach)
    shape = _scaled((2 * r + 1 for r in shown), factor)
    total, count = np.zeros(shape), np.zeros(shape, np.int32)
    for index, change in enumerate(swap_all(model, chosen, background, shown, field, max_voxels)):
        total[change.place] += change.data
        count[change.place] += 1
        result = None
        if index == len(chosen) - 1:
            mean = (total / np.maximum(count, 1)).astype(np.float32)
            volume = Volume(mean, _voxel_size(chosen), {}, f"atom of code {code}")
            result = Atom(code, volume, len(chosen), num_found, background, shown, shown == field)
        yield AtomStep(index, len(chosen), result)


def _largest(chosen: list[tuple[CodeMap, Int3]]) -> Int3:
    """Cells of the largest grid: what a voxel depends on where the receptive field of a network is everything."""
    z, y, x = (max(context.codes.shape[axis] for context, _ in chosen) for axis in range(3))
    return z, y, x


def _reach(field: Int3, reach: int | None) -> Int3:
    """Cells shown on each side: at most the receptive field."""
    z, y, x = (h if reach is None else min(reach, h) for h in field)
    return z, y, x


def _voxel_size(chosen: list[tuple[CodeMap, Int3]]) -> Float3:
    """Mean voxel size of the coded grids: a model takes a narrow range of them."""
    z, y, x = np.mean([context.latent.coded_voxel_size_um for context, _ in chosen], axis=0)
    return float(z), float(y), float(x)


def _scaled(cells: Iterator[int], factor: Int3) -> Int3:
    z, y, x = (n * f for n, f in zip(cells, factor, strict=True))
    return z, y, x
