"""What the user chose in napari's preferences; the defaults where there is no napari."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

PLUGIN = "napari-vqldm"  # name in the manifest


@dataclass(frozen=True)
class Settings:
    """Preferences of the plugin. The defaults are those of the manifest.

    Attributes
    ----------
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``; auto takes a GPU when there is one.
    precision : str
        ``"fp32"`` or ``"bf16"``.
    threads : int
        CPU threads of a model; 0 leaves one core to the window.
    cache_mib : int
        Memory for decoded frames, MiB.
    """

    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 0
    cache_mib: int = 512


_FIELDS = tuple(field.name for field in fields(Settings))


class Preferences:
    """Hears of every preference that is changed while the dock is open.

    Parameters
    ----------
    on_change : callable
        Gets the name of a field of `Settings` and its new value, on the GUI thread.
    """

    def __init__(self, on_change: Callable[[str, Any], object]) -> None:
        self._on_change: Callable[[str, Any], object] | None = on_change
        compute = _compute()
        self._emitters = [] if compute is None else [getattr(compute.events, name) for name in _FIELDS]
        for emitter in self._emitters:
            emitter.connect(self._on_event)  # napari keeps a weak reference

    def close(self) -> None:
        """Hear nothing any more; safe to call twice."""
        for emitter in self._emitters:
            emitter.disconnect(self._on_event)
        self._emitters = []
        self._on_change = None

    def _on_event(self, event: Any) -> None:
        if self._on_change is not None:
            self._on_change(str(event.type), event.value)


def read_settings() -> Settings:
    """Return the present preferences, or the defaults where napari is missing, too old, or does not know the plugin."""
    compute = _compute()
    return Settings() if compute is None else Settings(*(getattr(compute, name) for name in _FIELDS))


def _compute() -> Any:
    """Preferences as napari keeps them; None where napari is missing, too old, or does not know the plugin."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return get_plugin_settings(PLUGIN).compute
    except KeyError:  # not installed through its manifest, or switched off
        return None
