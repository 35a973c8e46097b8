"""A view that cannot be made leaves nothing behind: layers are shown, looks are their own, nothing stays linked."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_vqldm.plugin.compare import blink, canvases, grid, wipe
from napari_vqldm.plugin.compare.looks import LinkedLook, VisibleOnly
from napari_vqldm.plugin.compat import camera_of, grid_of

pytestmark = [pytest.mark.slow, pytest.mark.both_bindings]  # each part of each view fails once

SHAPE = (6, 24, 20)


@pytest.fixture
def layers(viewer: Any) -> list[Any]:
    """Input, another layer that is hidden, reconstruction, residual."""
    made = []
    for number, name in enumerate(("in", "other", "out", "rest")):
        data = np.random.default_rng(number).random(SHAPE, np.float32)
        made.append(viewer.add_image(data, name=name, contrast_limits=(0.0, 1.0 + number)))
    made[1].visible = False
    return made


def links() -> int:
    from napari.layers.utils import _link_layers

    return len(_link_layers._UNLINKERS)


def is_ours(callback: Any) -> bool:
    """Whether something of this package is called: napari lists methods as (reference, name)."""
    owner = type(callback[0]()) if isinstance(callback, tuple) else callback
    return str(getattr(owner, "__module__", "")).startswith("napari_vqldm")


def state(viewer: Any) -> Any:
    """What a view changes."""
    looks = [(layer.name, layer.visible, list(layer.contrast_limits)) for layer in viewer.layers]
    emitters = (
        viewer.layers.events.removed,
        viewer.dims.events.ndisplay,
        viewer.dims.events.point,
        viewer.events.theme,
        camera_of(viewer).events.zoom,
        *(layer.events.data for layer in viewer.layers),
    )
    grid_now = grid_of(viewer)
    return (
        looks,
        links(),
        (grid_now.enabled, grid_now.stride, tuple(grid_now.shape)),
        (tuple(camera_of(viewer).center), camera_of(viewer).zoom),
        [sum(is_ours(callback) for callback in emitter.callbacks) for emitter in emitters],
    )


VIEWS: dict[str, Callable[[Any, list[Any], Any], Any]] = {
    "side": lambda viewer, ls, ended: grid.SideBySide(viewer, [ls[0], ls[2], ls[3]], ended),
    "canvases": lambda viewer, ls, ended: canvases.SeparateCanvases(viewer, ls[0], [ls[2], ls[3]], ended),
    "blink": lambda viewer, ls, ended: blink.Blink(viewer, ls[0], ls[2], on_ended=ended),
    "wipe": lambda viewer, ls, ended: wipe.Wipe(viewer, ls[0], ls[2], ls[2].data, ls[0].data, ended),
}


@pytest.mark.parametrize(
    "name, module, broken",
    [
        ("side", grid, "VisibleOnly"),
        ("side", grid, "LinkedLook"),
        ("side", grid, "WholeView"),
        ("side", grid, "Titles"),
        ("canvases", canvases, "_copy"),
        ("canvases", canvases, "LinkedLook"),
        ("canvases", canvases, "SliceLock"),
        ("canvases", canvases, "Titles"),
        ("blink", blink, "LinkedLook"),
        ("wipe", wipe, "look_of"),
        ("wipe", wipe, "Divider"),
    ],
)
def test_a_view_that_fails_leaves_nothing(
    viewer: Any, layers: list[Any], monkeypatch: pytest.MonkeyPatch, qtbot: Any, name: str, module: Any, broken: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no context of OpenGL")

    before = state(viewer)
    monkeypatch.setattr(module, broken, fail)
    ended: list[bool] = []
    with pytest.raises(RuntimeError, match="OpenGL"):
        VIEWS[name](viewer, layers, lambda: ended.append(True))
    assert state(viewer) == before
    assert ended == []  # it never began
    monkeypatch.undo()
    view = VIEWS[name](viewer, layers, lambda: ended.append(True))
    view.end()
    assert ended == [True] and state(viewer) == before
    del view
    qtbot.wait(10)  # Qt deletes later
    gc.collect()


def test_looks_and_visibility_are_put_back_when_a_layer_refuses(
    viewer: Any, layers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari.layers import Image

    before = state(viewer)

    def refuse(event: Any) -> None:
        if not event.source.visible:
            raise RuntimeError("this layer stays")

    layers[2].events.visible.connect(refuse)
    with pytest.raises(Exception, match="this layer stays"):
        VisibleOnly(viewer, [layers[3]])
    layers[2].events.visible.disconnect(refuse)
    assert state(viewer) == before

    def no_gamma(_layer: Any, _value: float) -> None:
        raise RuntimeError("no gamma")

    monkeypatch.setattr(Image, "gamma", property(lambda _layer: 1.0, no_gamma))
    with pytest.raises(RuntimeError, match="no gamma"):
        LinkedLook([layers[0], layers[2]])
    monkeypatch.undo()
    assert [list(layer.contrast_limits) for layer in layers] == [entry[2] for entry in before[0]]
