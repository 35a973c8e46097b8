"""What the user chose in napari's preferences; the defaults where there is no napari."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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


def read_settings() -> Settings:
    """Return the present preferences, or the defaults where napari is missing, too old, or does not know the plugin."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return Settings()
    try:
        compute = get_plugin_settings(PLUGIN).compute
    except KeyError:  # not installed through its manifest, or switched off
        return Settings()
    return Settings(compute.device, compute.precision, compute.threads, compute.cache_mib)
