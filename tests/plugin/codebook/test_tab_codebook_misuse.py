"""The Codebook tab when layers come and go beside it, nothing can be counted, or an atom fails."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from tests.planted_model import planted_volume
from tests.plugin.codebook.conftest import FACTOR, some_codes
from tests.plugin.codebook.views_helpers import beyond_the_edge

from napari_vqldm import write_volume
from napari_vqldm.plugin.tabs.codebook.details import NOWHERE


def two_places() -> np.ndarray:
    """Codes (3, 6, 5): two cells of code 5, the others background."""
    codes = np.zeros((3, 6, 5), np.int32)
    codes[0, 1, 1], codes[2, 4, 3] = 5, 5
    return codes


def test_maps_that_go_and_come_back_are_told_at_once(viewer, tab, add_codes, idle, desk) -> None:
    add_codes(two_places())
    tab.count()
    idle()
    tab.choose(5)
    places = tab.codes.details.places
    assert places.text() == "2 places in the code map"
    desk.undo.undo()
    assert places.text().startswith("No code map is shown")
    desk.undo.redo()
    assert places.text() == "2 places in the code map"
    viewer.layers.remove(viewer.layers[-1])
    assert places.text().startswith("No code map is shown")


def test_the_place_stays_while_a_count_goes_on(viewer, tab, add_codes, idle, desk) -> None:
    add_codes(two_places())
    tab.count()
    idle()
    tab.choose(5)
    details = tab.codes.details
    details.next.click()
    for _ in range(2):
        tab.counter.changed.emit()
    assert details.places.text() == "place 1 of 2 in the code map"
    details.next.click()
    assert details.places.text() == "place 2 of 2 in the code map"


def test_places_in_the_map_of_another_layer_can_be_gone_to(viewer, tab, add_codes, idle, desk) -> None:
    add_codes(two_places(), "one")
    tab.count()
    idle()
    others = two_places()
    others[others == 5] = 4
    tab.count(add_codes(others, "two"))
    idle()
    tab.choose(5)  # not among what was counted last
    details = tab.codes.details
    assert details.places.text() == "2 places in 2 code maps" and details.next.isEnabled()
    details.next.click()
    assert details.places.text() == "place 1 of 2 in 2 code maps"
    tab.choose(7)
    assert details.places.text() == "0 places in 2 code maps" and not details.next.isEnabled()


def test_all_layers_says_so_where_there_is_no_volume(viewer, tab, desk) -> None:
    viewer.add_image(np.zeros((6, 8, 8)), name="bare")
    tab.count_all()
    assert "'bare' states no voxel size" in str(desk.failures.pop()) and not tab.counter.is_running


def test_an_atom_that_fails_is_not_waited_for(tab, add_codes, idle, wait_until, monkeypatch, desk) -> None:
    from napari_vqldm.inside import atoms

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of order")

    add_codes(some_codes())
    tab.count()
    idle()
    with monkeypatch.context() as patch:
        patch.setattr(atoms, "atom_steps", fail)
        tab.choose(5)
        wait_until(lambda: "could not be measured" in tab.codes.details.atom_text.text())
        assert "out of order" in str(desk.failures.pop())
    tab.choose(None)
    tab.choose(5)
    wait_until(lambda: tab.codes.details.atom is not None)


def test_atoms_of_the_picture_stand_by_use_on_filaments(tab, add_codes, idle, monkeypatch, tmp_path) -> None:
    from napari_vqldm.plugin.tabs.codebook import export

    drawn: list[int] = []
    monkeypatch.setattr(export, "save_png", lambda _path, _found, atoms, **_: drawn.extend(a.code for a in atoms))
    add_codes(some_codes())
    tab.count()
    idle()
    counts = tab.state.found.usage.filament.counts
    tab.codes.maker.atoms.update({code: SimpleNamespace(code=code) for code in range(8)})  # 0 is that of background
    tab.save_png(tmp_path / "codes.png")
    assert drawn == sorted(range(8), key=lambda code: (-counts[code], code)) and drawn[0] != 0


def test_why_none_of_the_layers_can_be_counted_is_said(viewer, tab, add_codes) -> None:
    viewer.add_image(np.zeros((9, 9)), name="flat")
    assert not tab.source.button.isEnabled() and "'flat'" in tab.source.reason.text()
    add_codes(two_places())
    assert tab.source.button.isEnabled() and tab.source.reason.text() == ""


def test_a_place_in_the_map_of_another_layer_says_why_it_has_no_atom(viewer, tab, add_codes, idle) -> None:
    """Each map can be clicked, and the counts are of the layer that was counted last."""
    only_first, second = some_codes(seed=1), some_codes(seed=2)
    second[second == 7] = 5
    add_codes(only_first, "first")
    tab.count()
    idle()
    tab.count(add_codes(second, "second"))
    idle()
    details = tab.codes.details
    tab.choose(7)
    assert "counts are of layer second" in details.atom_text.text() and "Count all layers" in details.atom_text.text()
    assert details.places.text() == f"{np.count_nonzero(only_first == 7)} places in 2 code maps"
    tab.choose(3)  # stands nowhere
    assert details.atom_text.text() == NOWHERE


def test_a_model_that_comes_back_replaces_its_own_maps(viewer, tab, add_codes, idle, desk, tiny_checkpoints) -> None:
    add_codes(some_codes(), "stack")
    tab.count()
    idle()
    old = viewer.layers["stack (codes)"]
    desk.model.open(tiny_checkpoints["ldm"])
    assert old in viewer.layers  # whoever only looks elsewhere loses nothing
    desk.model.open(tiny_checkpoints["vq-ldm"])
    tab.count()
    idle()
    assert [layer.name for layer in viewer.layers] == ["stack", "stack (codes)"] and old not in viewer.layers


def test_an_atom_lies_beside_an_open_stack_where_no_map_is_shown(
    viewer, tab, add_codes, idle, tmp_path, wait_until
) -> None:
    stack = add_codes(some_codes(seed=1), "stack", translate=(5.0, 6.0, 7.0))
    write_volume(tmp_path / "one.ome.tif", planted_volume(some_codes(), FACTOR, "one"))
    tab.count_folder(tmp_path)
    idle()
    tab.choose(7)
    wait_until(lambda: tab.codes.details.atom is not None)
    tab.codes.details.layer_button.click()
    atom = viewer.layers[-1]
    assert atom.name == "Atom of code 7"
    assert atom.extent.world[0, 2] >= stack.extent.world[1, 2]
    middles = [layer.extent.world.mean(axis=0)[:2] for layer in (atom, stack)]
    assert np.allclose(*middles, atol=0.2)
    left = atom.extent.world[0, 2]
    for code in (5, 4, 2):  # the layer stays where it is
        tab.choose(code)
        wait_until(lambda code=code: viewer.layers[-1].name == f"Atom of code {code}")
        assert viewer.layers[-1].extent.world[0, 2] == left


def test_the_whole_tab_fits_into_a_dock_as_napari_opens_it(tab, add_codes, idle, wait_until, qtbot) -> None:
    """260 pixels wide, 247 beside the vertical bar."""
    from napari._qt.qt_resources import get_stylesheet

    tab.setStyleSheet(get_stylesheet("dark"))
    add_codes(some_codes())
    tab.count()
    idle()
    tab.choose(7)
    wait_until(lambda: tab.codes.details.atom is not None)
    tab.codes.gallery_fold.set_open(True)
    tab.codes.plane_fold.set_open(True)
    tab.tools_fold.set_open(True)
    idle()
    qtbot.wait(50)
    assert tab.minimumSizeHint().width() <= 247
    tab.resize(247, 1400)
    qtbot.wait(50)
    assert beyond_the_edge(tab) == []
