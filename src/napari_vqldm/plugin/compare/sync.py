"""Lock cameras and slices of several viewers: whichever moves, the others follow."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from napari_vqldm.plugin.compat import bare, camera_of

CAMERA = ("center", "zoom", "angles", "perspective")
SLICES = ("point",)


class _Lock:
    """Copy fields from the part of a viewer that changed to the same part of all others.

    Setting a field sends an event of its own; while one is passed on, others are not, so that nothing echoes.
    """

    def __init__(self, parts: Sequence[Any], fields: Sequence[str]) -> None:
        self.is_locked = True
        self._is_passing_on = False
        self._parts = [weakref.ref(part) for part in parts]
        self._fields = tuple(fields)
        self._connections: list[tuple[weakref.ref[Any], str, Callable[..., None]]] = []
        for part in parts:
            for field in self._fields:
                callback = self._passer(weakref.ref(part), field)
                getattr(part.events, field).connect(callback)
                self._connections.append((weakref.ref(part), field, callback))
        for field in self._fields:
            self._pass_on(self._parts[0], field)

    def close(self) -> None:
        """Let the viewers go; safe to call twice."""
        for ref, field, callback in self._connections:
            if (part := ref()) is not None:
                getattr(part.events, field).disconnect(callback)
        self._connections = []

    def _passer(self, ref: weakref.ref[Any], field: str) -> Callable[..., None]:
        def changed(_event: Any = None) -> None:
            if self.is_locked:
                self._pass_on(ref, field)

        return changed

    def _pass_on(self, ref: weakref.ref[Any], field: str) -> None:
        source = ref()
        if source is None or self._is_passing_on:
            return
        with self._quietly():
            value = getattr(source, field)
            for other in (part() for part in self._parts):
                if other is not None and other is not source and getattr(other, field) != value:
                    self._set(other, field, value, source)

    def _set(self, part: Any, field: str, value: Any, _source: Any) -> None:
        setattr(part, field, value)

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        self._is_passing_on = True
        try:
            yield
        finally:
            self._is_passing_on = False


class CameraLock(_Lock):
    """One position, zoom, rotation and number of displayed axes in all viewers.

    Parameters
    ----------
    viewers : sequence of ViewerModel
        The first one gives the start.
    """

    def __init__(self, viewers: Sequence[Any]) -> None:
        viewers = [bare(viewer) for viewer in viewers]
        self._display = _Lock([viewer.dims for viewer in viewers], ("ndisplay",))
        super().__init__([camera_of(viewer) for viewer in viewers], CAMERA)

    def close(self) -> None:
        """Let the viewers go; safe to call twice."""
        self._display.close()
        super().close()


class SliceLock(_Lock):
    """One slice in all viewers, as long as ``is_locked``. Viewers may have another number of axes: the last ones meet.

    Parameters
    ----------
    viewers : sequence of ViewerModel
        The first one gives the start.
    """

    def __init__(self, viewers: Sequence[Any]) -> None:
        super().__init__([bare(viewer).dims for viewer in viewers], SLICES)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "is_locked" and value and getattr(self, "_connections", None):
            self._pass_on(self._parts[0], SLICES[0])  # locked again: the others come back

    def _set(self, part: Any, field: str, value: Any, source: Any) -> None:
        common = min(part.ndim, len(value))
        before, steps = part.point[part.ndim - common :], source.nsteps[len(value) - common :]
        # Along an axis of one step there is no choice: whoever has more stays where they are.
        moved = [new if count > 1 else old for old, new, count in zip(before, value[-common:], steps, strict=True)]
        part.point = (*part.point[: part.ndim - common], *moved)
