"""Undo takes back what we added, and nothing else."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

from napari_vqldm.plugin.layers.undo import MOST_GROUPS, Undo


@pytest.fixture
def model() -> Any:
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def undo(model: Any) -> Undo:
    return Undo(model)


def add(model: Any, name: str) -> Any:
    return model.add_image(np.zeros((3, 4, 4), np.float32), name=name, contrast_limits=(0, 1))


def names(model: Any) -> list[str]:
    return [layer.name for layer in model.layers]


def test_undo_and_redo_walk_over_groups(model: Any, undo: Undo) -> None:
    add(model, "mine")
    with undo.group("Sample 2 volumes"):
        first, second = add(model, "a"), add(model, "b")
    undo.added("Reconstruct", [add(model, "c")])
    assert (undo.can_undo, undo.title) == (True, "Reconstruct")
    undo.undo()
    assert names(model) == ["mine", "a", "b"] and undo.title == "Sample 2 volumes" and undo.redo_title == "Reconstruct"
    undo.undo()
    assert names(model) == ["mine"] and not undo.can_undo and undo.title == ""
    undo.redo()
    assert names(model) == ["mine", "a", "b"]
    assert model.layers["a"] is first and model.layers["b"] is second
    assert undo.can_undo and not undo.can_redo
    undo.undo()
    undo.undo()  # nothing left: layers of the user stay
    assert names(model) == ["mine"]


def test_redo_puts_layers_where_they_were(model: Any, undo: Undo) -> None:
    undo.added("Sample", [add(model, "a"), add(model, "b")])
    add(model, "mine")
    undo.undo()
    undo.redo()
    assert names(model) == ["a", "b", "mine"]


def test_deleted_layers_are_skipped_and_renamed_ones_found(model: Any, undo: Undo) -> None:
    with undo.group("Sample"):
        a, b = add(model, "a"), add(model, "b")
    model.layers.remove(a)
    b.name = "renamed"
    undo.undo()
    assert names(model) == []
    undo.redo()
    assert names(model) == ["renamed"]  # what the user deleted stays deleted
    model.layers.clear()
    assert not undo.can_undo
    undo.undo()


def test_a_group_that_failed_half_way_can_be_taken_back(model: Any, undo: Undo) -> None:
    def fail() -> None:
        with undo.group("Sample"):
            add(model, "a")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    undo.undo()
    assert names(model) == []


def test_undo_holds_no_deleted_layer(model: Any, undo: Undo) -> None:
    layer = add(model, "a")
    undo.added("Sample", [layer])
    watched = weakref.ref(layer)
    model.layers.clear()
    model.layers.selection.clear()
    del layer
    gc.collect()
    assert watched() is None


@pytest.mark.slow
@pytest.mark.both_bindings
def test_redo_holds_the_last_group_until_clear(model: Any, undo: Undo) -> None:
    watched = []
    for name in ("a", "b"):
        layer = add(model, name)
        undo.added(name, [layer])
        watched.append(weakref.ref(layer))
    del layer
    undo.undo()
    undo.undo()
    model.layers.selection.clear()
    gc.collect()
    assert watched[1]() is None and watched[0]() is not None
    undo.clear()
    gc.collect()
    assert watched[0]() is None
    undo.redo()
    assert names(model) == []


def test_groups_are_bounded_and_changes_are_told(model: Any, undo: Undo) -> None:
    heard: list[str] = []
    undo.changed.connect(lambda: heard.append(undo.title))
    for i in range(MOST_GROUPS + 3):
        undo.added(f"{i}", [add(model, f"{i}")])
    assert len(heard) == MOST_GROUPS + 3 and heard[-1] == f"{MOST_GROUPS + 2}"
    for _ in range(MOST_GROUPS + 3):
        undo.undo()
    assert names(model) == ["0", "1", "2"]
    heard.clear()
    undo.redo()
    model.layers.remove(model.layers[-1])  # by the user
    assert heard[-1] == ""


def test_layers_behind_the_proxy_of_a_plugin_are_found(model: Any) -> None:
    from napari.utils._proxies import PublicOnlyProxy

    proxy = PublicOnlyProxy(model)
    undo = Undo(proxy)
    layer = add(proxy, "a")
    undo.added("Sample", [layer])
    del proxy, layer
    gc.collect()
    assert undo.can_undo
    undo.undo()
    assert names(model) == []
