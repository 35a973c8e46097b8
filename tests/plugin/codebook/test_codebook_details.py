"""The details of a code: what they say, what they ask for, what they choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from qtpy.QtCore import Qt
from tests.plugin.codebook.views_helpers import (
    atom_of,
    beyond_the_edge,
    code_map_of,
    found_of,
    many_found,
    shown,
)

if TYPE_CHECKING:
    from napari_vqldm.plugin.tabs.codebook.details import CodeDetails

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def details(qtbot: Any) -> CodeDetails:
    from napari_vqldm.plugin.tabs.codebook.details import CodeDetails
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

    widget = CodeDetails(CodebookState())
    widget.state.setParent(widget)
    return shown(qtbot, widget)


def test_a_code_is_told_in_words(details: CodeDetails) -> None:
    assert details.title.text() == ""
    details.state.show(found_of())
    assert details.title.text() == "Choose a code: click a bar, a point, an atom, or a voxel of the code map."
    details.state.choose(4)
    assert details.title.text() == "Code 4 · rank 2 of 12 · 14.18% of all cells"
    assert details.cells.text() == "90 filament cells, 800 background cells"
    assert details.places.text() == "Stands in 1 cell of the code map."
    details.state.choose(0)
    assert details.cells.text() == "0 filament cells, 5000 background cells; the commonest code of the background"
    details.state.choose(3)
    assert details.cells.text() == "dead: no counted cell has it"
    assert details.places.text() == "Stands nowhere in the code map." and not details.next.isEnabled()
    assert details.atom_text.text() == "No atom: this code stands in no code map that was kept."
    details.state.choose((4, 5, 6))
    assert details.title.text() == "3 codes: 102 filament cells, 840 background cells together."
    assert details.cells.text() == "" and not details.next.isVisible() and not details.neighbours[0].isVisible()


def test_the_nearest_codes_are_a_click_away(qtbot: Any, details: CodeDetails) -> None:
    found = found_of()
    details.state.show(found)
    details.state.choose(4)
    distances = np.linalg.norm(found.vectors - found.vectors[4], axis=1)
    nearest = np.argsort(distances)[1:9]
    assert [button.text() for button in details.neighbours] == [f"{code}\n{distances[code]:.3g}" for code in nearest]
    assert details.neighbours[2].accessibleName() == f"Code {nearest[2]}, distance {distances[nearest[2]]:.3g}"
    qtbot.mouseClick(details.neighbours[2], LEFT)
    assert details.state.codes == (nearest[2],)
    assert details.title.text().startswith(f"Code {nearest[2]} ")
    details.state.show(found_of([1, 1, 1], [1, 0, 0], weights_sha256="b" * 64))
    details.state.choose(1)
    assert [button.isVisible() for button in details.neighbours] == [True, True, *[False] * 6]


def test_places_are_walked_with_buttons(qtbot: Any, details: CodeDetails) -> None:
    steps: list[int] = []
    details.place_wanted.connect(steps.append)
    maps = (code_map_of([[[4, 4, 1]]], 12), code_map_of([[[4]]], 12))
    details.state.show(found_of(contexts=maps))
    details.state.choose(4)
    assert details.places.text() == "Stands in 3 cells of the code map."
    for button in (details.next, details.next, details.previous):
        qtbot.mouseClick(button, LEFT)
    assert steps == [1, 1, -1]
    details.set_places("Place 2 of 3")
    details.state.show(found_of(contexts=maps, num_volumes=2))
    assert details.places.text() == "Place 2 of 3"  # counting goes on: nothing else was chosen
    details.state.choose(1)
    assert details.places.text() == "Stands in 1 cell of the code map."


@pytest.mark.slow
@pytest.mark.both_bindings
def test_the_atom_is_asked_for_when_one_code_is_looked_at(qtbot: Any, details: CodeDetails) -> None:
    asked: list[int] = []
    details.atom_wanted.connect(asked.append)
    details.state.show(found_of())
    for code in (4, 5, 6):  # a walk along the bars
        details.state.choose(code)
        qtbot.wait(20)
    qtbot.waitUntil(lambda: bool(asked), timeout=5000)
    assert asked == [6]
    details.state.choose(3)  # stands nowhere
    details.state.choose((4, 5))
    qtbot.wait(400)
    details.hide()
    details.state.choose(7)
    qtbot.wait(400)
    assert asked == [6]
    details.show()
    qtbot.waitUntil(lambda: len(asked) > 1, timeout=5000)
    assert asked == [6, 7]


def test_what_is_being_made_or_failed_is_not_asked_for_again(qtbot: Any, details: CodeDetails) -> None:
    asked: list[int] = []
    details.atom_wanted.connect(asked.append)
    details.state.show(found_of())
    details.state.choose(4)
    qtbot.waitUntil(lambda: asked == [4], timeout=5000)
    details.set_atom_text("Measuring the atom...")
    details.state.show(found_of(num_volumes=2))
    details.hide()
    details.show()
    qtbot.wait(400)
    assert asked == [4]
    details.set_atom_text("")
    details.state.show(found_of(num_volumes=3))
    qtbot.waitUntil(lambda: asked == [4, 4], timeout=5000)


def test_while_counting_no_atom_is_asked_for(qtbot: Any, details: CodeDetails) -> None:
    asked: list[int] = []
    details.atom_wanted.connect(asked.append)
    details.state.show(found_of(is_complete=False))
    details.state.choose(4)
    qtbot.wait(400)
    assert asked == []
    details.state.show(found_of())
    qtbot.waitUntil(lambda: asked == [4], timeout=5000)


def test_the_atom_is_shown_with_its_numbers(qtbot: Any, details: CodeDetails) -> None:
    wanted: list[bool] = []
    details.atom_layer_wanted.connect(lambda: wanted.append(True))
    details.state.show(found_of())
    details.state.choose(4)
    details.set_atom_text("Measuring the atom...")
    assert details.atom_text.text() == "Measuring the atom..." and not details.picture.isVisible()
    assert not details.layer_button.isEnabled()
    details.set_atom(atom_of(5, 1.0))  # late: of the code before
    assert details.atom is None
    details.set_atom(atom_of(4, 0.8))
    assert details.atom_text.text() == (
        "mean over 16 of 40 occurrences. Brightest +0.80, darkest -0.20 of a filament's peak."
    )
    assert details.picture.isVisible() and details.picture.accessibleName().startswith("Atom of code 4")
    qtbot.mouseClick(details.layer_button, LEFT)
    assert wanted == [True]
    details.state.choose(5)
    assert details.atom is None and not details.picture.isVisible() and not details.layer_button.isEnabled()


@pytest.mark.parametrize("shape", [(4, 8, 8), (16, 8, 8), (2, 40, 8), (2, 8, 40)])
def test_the_picture_of_any_atom_fits_into_a_narrow_dock(details: CodeDetails, shape: tuple[int, int, int]) -> None:
    details.state.show(found_of())
    details.state.choose(4)
    details.set_atom(atom_of(4, 0.02, shape))
    picture = details.picture.pixmap()
    longer = max(picture.width(), picture.height()) / picture.devicePixelRatio()
    assert 185 <= longer <= 202
    depth, height, wide = (n * size for n, size in zip(shape, (0.2, 0.1, 0.1), strict=True))
    middle = picture.toImage().pixelColor(
        round(picture.width() * wide / (wide + depth) / 2), round(picture.height() * height / (height + depth) / 2)
    )
    assert middle.red() == pytest.approx(255 * 0.02 / 0.05, abs=2)  # faint: white is 0.05 at least


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [236, 480])
def test_everything_fits(qtbot: Any, details: CodeDetails, theme: str, width: int) -> None:
    from napari._qt.qt_resources import get_stylesheet

    details.setStyleSheet(get_stylesheet(theme))
    details.resize(width, 700)
    details.state.show(many_found(16384))
    details.state.choose(16383 if details.state.found.usage.everywhere.counts[16383] else 16382)  # type: ignore[union-attr]
    details.set_atom(atom_of(details.state.codes[0], 1.0))
    qtbot.wait(50)
    assert details.neighbours[7].isVisible() and beyond_the_edge(details) == []
    brightness = details.title.palette().windowText().color().lightness()
    assert (brightness > 128) == (theme == "dark")
