"""The gallery of atoms: which are shown and asked for, how bright they are, and choosing codes there."""

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
    from napari_vqldm.plugin.tabs.codebook.gallery import AtomGallery

SHOWN = (4, 7, 6, 5, 1, 9, 2, 11, 10)  # by use: without the dead codes 3 and 8, and 0, which is the background
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def gallery(qtbot: Any) -> AtomGallery:
    from napari_vqldm.plugin.tabs.codebook.gallery import AtomGallery
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

    widget = AtomGallery(CodebookState())
    widget.state.setParent(widget)
    assert widget.sort.currentData() == "filament"
    widget.sort.setCurrentIndex(widget.sort.findData("use"))
    return shown(qtbot, widget)


@pytest.fixture
def asked(gallery: AtomGallery) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    gallery.wanted.connect(found.append)
    return found


def captions(gallery: AtomGallery) -> list[str]:
    return [item.text() for item in gallery._items()]


def brightness(gallery: AtomGallery, code: int) -> int:
    """Of the middle of a picture, 0 to 255."""
    (item,) = (item for item in gallery._items() if item.data(Qt.ItemDataRole.UserRole) == code)
    image = item.icon().pixmap(gallery.list.iconSize()).toImage()
    return image.pixelColor(image.width() // 2, image.height() // 2).red()


def test_atoms_stand_in_the_order_of_use(gallery: AtomGallery, asked: list[tuple[int, ...]]) -> None:
    assert "Count the codes of a layer" in gallery.text.text() and not gallery.list.isVisible()
    gallery.state.show(found_of())
    assert gallery.codes == SHOWN and asked == [SHOWN] and gallery.text.text() == ""
    assert captions(gallery)[:3] == ["code 4 · rank 2", "code 7 · rank 3", "code 6 · rank 4"]
    gallery.sort.setCurrentIndex(gallery.sort.findData("filament"))
    assert gallery.codes == (4, 5, 2, 1, 9, 7, 10) == asked[-1]  # 6 and 11 describe no filament
    assert captions(gallery)[2] == "code 2 · rank 8"


def test_atoms_that_nobody_looks_at_are_not_asked_for(gallery: AtomGallery, asked: list[tuple[int, ...]]) -> None:
    gallery.hide()
    gallery.state.show(found_of())
    assert asked == []
    gallery.show()
    assert asked == [SHOWN]
    gallery.set_atom(atom_of(7, 1.0))
    gallery.hide()
    gallery.show()
    assert asked[-1] == tuple(code for code in SHOWN if code != 7)
    gallery.clear()
    assert asked[-1] == SHOWN and brightness(gallery, 7) == 0


def test_counting_and_missing_maps_are_told(gallery: AtomGallery, asked: list[tuple[int, ...]]) -> None:
    gallery.state.show(found_of(is_complete=False))
    assert gallery.text.text() == "The atoms are made when counting is done." and not gallery.list.isVisible()
    gallery.state.show(found_of(contexts=()))
    assert gallery.text.text().startswith("No code map was kept")
    nothing_else = found_of([0] * 4, [9, 0, 0, 0])
    gallery.state.show(nothing_else)
    assert gallery.text.text() == "No code but that of the background is used here."
    assert asked == []
    gallery.state.show(found_of(contexts=(code_map_of([[[0, 1, 6]]], 12), code_map_of([[[2]]], 12))))
    assert gallery.codes == (6, 1, 2) == asked[-1]  # an atom is measured where its code stands


def test_more_shows_and_asks_for_the_next_twelve(qtbot: Any, gallery: AtomGallery, asked: list[Any]) -> None:
    gallery.state.show(found_of(np.arange(31)[::-1] + 1, np.r_[0, 0, 99, np.zeros(28)]))
    by_use = (0, 1, *range(3, 31))  # 2 is the background
    assert asked == [by_use[:12]] and gallery.more.text() == "More (18 left)"
    for code in by_use[:12]:
        gallery.set_atom(atom_of(code, 1.0))
    qtbot.mouseClick(gallery.more, LEFT)
    assert asked[-1] == by_use[12:24] and gallery.list.count() == 24
    qtbot.mouseClick(gallery.more, LEFT)
    assert gallery.codes == by_use and gallery.more.text() == "All shown" and not gallery.more.isEnabled()


def test_all_have_one_contrast_and_a_faint_one_is_faint(gallery: AtomGallery) -> None:
    gallery.state.show(found_of())
    gallery.set_atom(atom_of(7, 0.01))
    assert brightness(gallery, 7) == pytest.approx(255 * 0.01 / 0.05, abs=2)  # white is 0.05 at least
    gallery.set_atom(atom_of(4, 0.5))
    assert brightness(gallery, 4) == 255 and brightness(gallery, 7) == pytest.approx(255 * 0.02, abs=2)
    gallery.set_atom(atom_of(6, 0.25))
    assert brightness(gallery, 6) == pytest.approx(127, abs=3)
    gallery.state.show(found_of(weights_sha256="b" * 64))
    assert brightness(gallery, 4) == 0  # another model: its atoms are not made yet
    assert gallery._items()[0].toolTip() == "This atom is not made yet"


def test_a_click_chooses_and_the_chosen_one_is_framed(qtbot: Any, gallery: AtomGallery) -> None:
    gallery.state.show(found_of())
    qtbot.wait(20)
    items = gallery._items()
    where = gallery.list.visualItemRect(items[1]).center()
    qtbot.mouseClick(gallery.list.viewport(), LEFT, pos=where)
    assert gallery.state.codes == (7,) and [item.isSelected() for item in items].count(True) == 1
    gallery.state.choose((10, 0))  # from elsewhere
    assert [item.isSelected() for item in items] == [code == 10 for code in SHOWN]
    gallery.state.choose(11)
    area = gallery.list.viewport().rect()
    assert area.contains(gallery.list.visualItemRect(items[SHOWN.index(11)]).center())  # scrolled into view
    qtbot.keyClick(gallery.list, Qt.Key.Key_Home)
    assert gallery.state.codes == (4,)


@pytest.mark.parametrize("width, columns", [(275, 2), (320, 2), (480, 3)])
@pytest.mark.parametrize("size", [64, 16384])
def test_captions_fit(qtbot: Any, gallery: AtomGallery, width: int, columns: int, size: int) -> None:
    from napari._qt.qt_resources import get_stylesheet

    from napari_vqldm.plugin.tabs.codebook.parts import order_of

    found = many_found(size)
    gallery.setStyleSheet(get_stylesheet("dark"))
    gallery.resize(width, 400)
    rarest = [code for code in order_of(found, "use").tolist() if found.usage.everywhere.counts[code]][-6:]
    gallery.state.show(many_found(size, contexts=(code_map_of([[rarest]], size),)))
    qtbot.wait(50)
    tops = [gallery.list.visualItemRect(item).top() for item in gallery._items()]
    assert tops.count(tops[0]) == columns
    room = gallery.list.gridSize().width() - 8
    for text in captions(gallery):
        assert all(gallery.list.fontMetrics().horizontalAdvance(line) <= room for line in text.splitlines())
    assert beyond_the_edge(gallery) == []


def test_the_frame_follows_the_theme(qtbot: Any, gallery: AtomGallery) -> None:
    from napari._qt.qt_resources import get_stylesheet

    gallery.state.show(found_of())
    gallery.state.choose(4)
    for theme, is_bright in (("dark", True), ("light", False)):
        gallery.setStyleSheet(get_stylesheet(theme))
        qtbot.wait(50)
        where = gallery.list.visualItemRect(gallery._items()[0])
        image = gallery.list.viewport().grab().toImage()
        edge = [image.pixelColor(where.center().x(), where.top() + k).lightness() for k in range(3)]
        assert (max(edge) > 200) if is_bright else (min(edge) < 60)
