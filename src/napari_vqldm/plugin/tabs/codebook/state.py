"""What all views of the Codebook tab share: the counts, and the codes that the user chose in any of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, Signal

if TYPE_CHECKING:
    from napari_vqldm.codebook import CodebookUsage
    from napari_vqldm.inside.codes import CodeMap


@dataclass(frozen=True, eq=False)
class Found:
    """What was counted, so far.

    Attributes
    ----------
    model_name, weights_sha256 : str
        Whose codebook it is.
    usage : CodebookUsage
        Counts of every code, over filament cells and background cells.
    contexts : tuple of CodeMap
        Code maps that were kept: atoms are measured there.
    vectors : ndarray
        (K, C): the code vectors.
    is_implicit : bool
        No table is learned: a code is a point of a fixed grid (FSQ). Its vectors are that grid.
    background_code : int or None
        The commonest code of background cells; None where no cell is background.
    what : str
        What was counted, in plain words, such as "layer spindle" or "12 volumes of folder x".
    num_volumes : int
        How many volumes.
    problems : tuple of str
        Why files were left out, one line each.
    is_complete : bool
        False while counting goes on.
    """

    model_name: str
    weights_sha256: str
    usage: CodebookUsage
    contexts: tuple[CodeMap, ...]
    vectors: npt.NDArray[np.float32]
    is_implicit: bool
    background_code: int | None
    what: str
    num_volumes: int
    problems: tuple[str, ...] = ()
    is_complete: bool = True

    @property
    def num_codes(self) -> int:
        """Size of the codebook."""
        return len(self.vectors)


class CodebookState(QObject):
    """Counts and choice, with a signal for each.

    Attributes
    ----------
    found : Found or None
        None before anything was counted.
    codes : tuple of int
        The chosen codes, ascending: one that was clicked or picked, or several that were brushed. Empty: none.
    code : int or None
        The one that is looked at closely; None unless exactly one is chosen.
    """

    counted = Signal()  # `found` changed, also while counting goes on
    chosen = Signal()  # `codes` changed

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.found: Found | None = None
        self.codes: tuple[int, ...] = ()

    @property
    def code(self) -> int | None:
        """The code that is looked at."""
        return self.codes[0] if len(self.codes) == 1 else None

    def show(self, found: Found | None) -> None:
        """Show other counts. The choice stays where the codebook is the same."""
        old, self.found = self.found, found
        is_same = old is not None and found is not None and old.weights_sha256 == found.weights_sha256
        if not is_same:
            self.choose(())
        self.counted.emit()

    def choose(self, codes: int | Iterable[int] | None) -> None:
        """Choose one code, several, or none; those that the codebook does not have are left out."""
        wanted = () if codes is None else (codes,) if isinstance(codes, int | np.integer) else codes
        size = 0 if self.found is None else self.found.num_codes
        chosen = tuple(sorted({int(code) for code in wanted if 0 <= code < size}))
        if chosen != self.codes:
            self.codes = chosen
            self.chosen.emit()
