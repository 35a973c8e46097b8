"""The Codebook tab when layers come and go beside it, nothing can be counted, or an atom fails."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from tests.plugin.codebook.conftest import some_codes


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
