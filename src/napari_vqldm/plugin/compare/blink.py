"""Blink: input and reconstruction in the same place, one after the other. The eye sees what differs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QTimer

from napari_vqldm.plugin.compare.looks import LinkedLook, VisibleOnly
from napari_vqldm.plugin.compat import bare

PERIOD_MS = 700


class Blink:
    """Show two layers in turn until it is ended.

    Parameters
    ----------
    viewer : napari.Viewer
        All its other layers are hidden meanwhile.
    first, second : Image
        They get one look: that of the first.
    on_shown : callable, optional
        Called with the layer that is shown now.
    on_ended : callable, optional
        Called once, also when one of the layers was deleted.
    """

    def __init__(
        self,
        viewer: Any,
        first: Any,
        second: Any,
        on_shown: Callable[[Any], None] | None = None,
        on_ended: Callable[[], None] | None = None,
    ) -> None:
        viewer, first, second = bare(viewer), bare(first), bare(second)
        self._viewer = weakref.ref(viewer)
        self._pair = (weakref.ref(first), weakref.ref(second))
        self._on_shown = on_shown
        self._on_ended = on_ended
        visible = VisibleOnly(viewer, [first])
        self._visible: VisibleOnly | None = visible
        try:
            self._look = LinkedLook([first, second])
        except Exception:  # nobody holds a view that was not made: the layers must not stay hidden
            visible.close()
            raise
        self._timer = QTimer()
        self._timer.setInterval(PERIOD_MS)
        self._timer.timeout.connect(self.toggle)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def is_playing(self) -> bool:
        """Whether the layers change by themselves."""
        return self._timer.isActive()

    def play(self) -> None:
        """Let the layers change by themselves."""
        self._timer.start()

    def pause(self) -> None:
        """Keep what is shown; `toggle` goes on."""
        self._timer.stop()

    def toggle(self) -> None:
        """Show the other layer."""
        first, second = (ref() for ref in self._pair)
        if first is None or second is None or self._visible is None:
            return
        # The one that appears comes first: in between both are there, never an empty canvas.
        appears, goes = (second, first) if first.visible else (first, second)
        appears.visible = True
        goes.visible = False
        if self._on_shown is not None:
            self._on_shown(appears)

    def end(self) -> None:
        """Stop, and put visibility and looks back; safe to call twice."""
        if self._visible is None:
            return
        visible, self._visible = self._visible, None
        self._timer.stop()
        self._look.close()
        viewer = self._viewer()
        if viewer is not None:
            viewer.layers.events.removed.disconnect(self._on_removed)
            visible.close()
        if self._on_ended is not None:
            self._on_ended()

    def _on_removed(self, event: Any) -> None:
        if any(ref() is event.value for ref in self._pair):
            self.end()
