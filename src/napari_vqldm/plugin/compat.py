"""One spelling for what napari moved in 0.9: the camera, the grid and the scale bar of a viewer."""

from __future__ import annotations

from typing import Any


def camera_of(viewer: Any) -> Any:
    """Return the camera: ``viewer.scene.camera`` since napari 0.9, ``viewer.camera`` before."""
    return getattr(viewer, "scene", viewer).camera


def grid_of(viewer: Any) -> Any:
    """Return the grid of the canvas: ``viewer.canvas.grid`` since napari 0.9, ``viewer.grid`` before."""
    return getattr(viewer, "canvas", viewer).grid


def scale_bar_of(viewer: Any) -> Any:
    """Return the scale bar: an overlay of the canvas since napari 0.9, ``viewer.scale_bar`` before."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.scale_bar if canvas is None else canvas.overlays.scale_bar


def bare(thing: Any) -> Any:
    """Return the object behind the proxy that napari hands to plugins, or the object itself.

    A proxy is a new object on every access: it can be neither compared by identity nor referenced weakly.
    """
    return getattr(thing, "__wrapped__", thing)
