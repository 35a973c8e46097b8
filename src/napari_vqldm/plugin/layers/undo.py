"""Take back the layers that we added, group by group."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_vqldm.plugin.compat import bare

if TYPE_CHECKING:
    from napari.layers import Layer

MOST_GROUPS = 20


@dataclass(frozen=True)
class _Group:
    """Layers that one action added. Deleted layers must be free to go, so they are referenced weakly."""

    title: str
    layers: tuple[weakref.ref[Layer], ...]


@dataclass(frozen=True)
class _TakenBack:
    """The group that was taken back last: the only one that keeps its layers alive."""

    title: str
    layers: tuple[tuple[int, Layer], ...]  # place in the list, layer


class Undo:
    """Undo and redo of added layers; other layers and later edits are never touched.

    Parameters
    ----------
    viewer : napari.Viewer
        Referenced weakly.
    """

    changed = Signal()  # what can be undone or redone changed

    def __init__(self, viewer: Any) -> None:
        self._viewer = weakref.ref(bare(viewer))
        self._groups: deque[_Group] = deque(maxlen=MOST_GROUPS)
        self._taken_back: _TakenBack | None = None
        bare(viewer).layers.events.removed.connect(self._on_removed)

    @property
    def can_undo(self) -> bool:
        """True when a layer that we added is still in the viewer."""
        self._forget_deleted()
        return bool(self._groups)

    @property
    def can_redo(self) -> bool:
        """True when the last step was an undo."""
        return self._taken_back is not None

    @property
    def title(self) -> str:
        """What `undo` takes back; empty when there is nothing."""
        self._forget_deleted()
        return self._groups[-1].title if self._groups else ""

    @property
    def redo_title(self) -> str:
        """What `redo` adds again; empty when there is nothing."""
        return self._taken_back.title if self._taken_back is not None else ""

    def added(self, title: str, layers: Sequence[Layer]) -> None:
        """Note layers that one action added to the viewer."""
        if not layers:
            return
        self._groups.append(_Group(title, tuple(weakref.ref(bare(layer)) for layer in layers)))
        self._taken_back = None
        self.changed.emit()

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Note all layers that are added in the ``with`` block; also when it fails half-way."""
        before = {id(layer) for layer in self._in_viewer()}
        try:
            yield
        finally:
            self.added(title, [layer for layer in self._in_viewer() if id(layer) not in before])

    def undo(self) -> None:
        """Remove the layers of the last group that are still there."""
        self._forget_deleted()
        if not self._groups:
            return
        group = self._groups.pop()
        present = self._in_viewer()
        layers = [layer for ref in group.layers if (layer := ref()) is not None and _contains(present, layer)]
        places = sorted(((_place(present, layer), layer) for layer in layers), key=lambda entry: entry[0])
        viewer = self._viewer()
        if viewer is not None:
            for _, layer in places:
                viewer.layers.remove(layer)
        self._taken_back = _TakenBack(group.title, tuple(places))
        self.changed.emit()

    def redo(self) -> None:
        """Add the layers that `undo` removed last, at their places."""
        taken_back, viewer = self._taken_back, self._viewer()
        if taken_back is None or viewer is None:
            return
        self._taken_back = None
        present = self._in_viewer()
        layers = []
        for place, layer in taken_back.layers:
            if not _contains(present, layer):  # the user may have put it back by hand
                viewer.layers.insert(min(place, len(viewer.layers)), layer)
            layers.append(layer)
        self.added(taken_back.title, layers)

    def clear(self) -> None:
        """Forget everything; no layer is held or removed."""
        self._groups.clear()
        self._taken_back = None
        self.changed.emit()

    def forget_taken_back(self) -> None:
        """Let go of the layers that were taken back: they cannot be added again."""
        self._taken_back = None
        self.changed.emit()

    def _forget_deleted(self) -> None:
        """Drop last groups of which the user deleted every layer."""
        present = self._in_viewer()
        while self._groups and not any(_contains(present, ref()) for ref in self._groups[-1].layers):
            self._groups.pop()

    def _on_removed(self, _event: object = None) -> None:
        """The user deleted a layer: perhaps the last of a group."""
        self.changed.emit()

    def _in_viewer(self) -> list[Layer]:
        viewer = self._viewer()
        return [] if viewer is None else list(viewer.layers)


def _contains(layers: list[Layer], layer: Layer | None) -> bool:
    return any(entry is layer for entry in layers)


def _place(layers: list[Layer], layer: Layer) -> int:
    return next(i for i, entry in enumerate(layers) if entry is layer)
