"""The code maps that are shown as layers, and the way from one place of a code to the next, over all of them."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.tabs.codebook.map_layer import CodeMapLayer
from napari_vqldm.plugin.tabs.codebook.state import CodebookState

if TYPE_CHECKING:
    from napari_vqldm.inside.codes import CodeMap
    from napari_vqldm.plugin.layers import LayerSource

MOST_GONE = 20  # maps whose layer was removed are kept for as long: undo and redo bring them back


@dataclass(frozen=True, eq=False)
class _Entry:
    """A map, what it was made of, and the layer of that, which must be free to go."""

    shown: CodeMapLayer
    source: LayerSource
    stack: weakref.ref[Any]


@dataclass(frozen=True, eq=False)
class _Former:
    """A map of a model that was let go: it stays, and makes room when this model counts the same stack again."""

    weights_sha256: str
    layer: weakref.ref[Any]
    stack: weakref.ref[Any]


class ShownMaps:
    """Adds code maps to a viewer, one for each layer that was counted.

    Parameters
    ----------
    viewer : napari.Viewer
        Referenced weakly.
    state : CodebookState
        What is chosen.
    """

    def __init__(self, viewer: Any, state: CodebookState) -> None:
        self._viewer = weakref.ref(bare(viewer))
        self._state = state
        self._entries: list[_Entry] = []
        self._former: list[_Former] = []
        self._place = -1
        self._walked: list[int] = []  # maps that the way goes through, by `id`: they must be free to go

    @property
    def maps(self) -> list[CodeMapLayer]:
        """Those whose layers are in the viewer."""
        return [entry.shown for entry in self._entries if entry.shown.layer is not None]

    @property
    def newest(self) -> LayerSource | None:
        """What the newest map that is there was made of."""
        return next((entry.source for entry in reversed(self._entries) if entry.shown.layer is not None), None)

    def add(self, code_map: CodeMap, source: LayerSource, layer: weakref.ref[Any]) -> Any:
        """Add the map of a layer as a new layer and return that; an earlier map of the same layer makes room for it."""
        viewer = self._viewer()
        if viewer is None:
            return None
        stack = layer()
        for entry in [entry for entry in self._entries if stack is not None and entry.stack() is stack]:
            old = entry.shown.layer
            entry.shown.close()
            self._entries.remove(entry)
            if old is not None:
                viewer.layers.remove(old)
        self._remove_former(viewer, code_map.latent.weights_sha256, stack)
        shown = CodeMapLayer(viewer, code_map, source, self._state)
        # Without its voxels: where the stack lies is all that is needed of it later.
        self._entries.append(_Entry(shown, replace(source, data=None), layer))
        gone = [entry for entry in self._entries if entry.shown.layer is None]
        for entry in gone[:-MOST_GONE]:
            entry.shown.close()
            self._entries.remove(entry)
        return shown.layer

    def count_of(self, code: int) -> int:
        """Cells of a code in all maps that are shown."""
        return sum(int(shown.code_map.usage.everywhere.counts[code]) for shown in self.maps)

    def begin(self) -> str:
        """Stand before the first place of the code that is chosen now; return how many places there are, in words."""
        self._place = -1
        self._walked = [id(shown) for shown in self.maps]
        return self._text()

    def again(self) -> str:
        """Say again how many places there are, or which is shown; where maps came or went the way begins anew."""
        return self._text() if self._walked == [id(shown) for shown in self.maps] else self.begin()

    @property
    def can_step(self) -> bool:
        """Whether there is a place to go to, or a word to say about why there is none."""
        code, maps = self._state.code, self.maps
        return code is not None and (not maps or any(len(shown.places(code)) for shown in maps))

    def step(self, by: int) -> str:
        """Go to the next place (1) or the one before (-1), round and round; return which it is, in words."""
        code = self._state.code
        if code is None:
            return ""
        places = [(shown, index) for shown in self.maps for index in range(len(shown.places(code)))]
        if places:
            self._place = (max(self._place, 0 if by < 0 else -1) + by) % len(places)
            shown, index = places[self._place]
            shown.go_to(index)
        return self._text()

    def close(self) -> None:
        """Stop following the choice; the layers stay."""
        for entry in self._entries:
            layer, weights = entry.shown.layer, entry.shown.code_map.latent.weights_sha256
            if layer is not None:
                self._former.append(_Former(weights, weakref.ref(layer), entry.stack))
            entry.shown.close()
        self._entries.clear()

    def _remove_former(self, viewer: Any, weights_sha256: str, stack: Any) -> None:
        """Take the map away that this model made of a stack before another one was opened."""
        for former in list(self._former):
            layer = former.layer()
            is_same = stack is not None and former.stack() is stack and former.weights_sha256 == weights_sha256
            if is_same and layer is not None and layer in viewer.layers:
                viewer.layers.remove(layer)
            if is_same or layer is None:
                self._former.remove(former)

    def _text(self) -> str:
        code, maps = self._state.code, self.maps
        if code is None:
            return ""
        counts = [len(shown.places(code)) for shown in maps]
        total = sum(counts)
        if not maps:
            return "No code map is shown: count a layer to see where the code stands."
        where = f"in {len(maps)} code maps" if len(maps) > 1 else "in the code map"
        if self._place < 0 or not total:
            return f"{total} place{'' if total == 1 else 's'} {where}"
        return f"place {self._place + 1} of {total} {where}"
