"""Atoms and the plane in the Codebook tab: a planted decoder shows its kernels, in the background and in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tests.planted_model import REACH
from tests.plugin.codebook.conftest import FACTOR, counts_of, some_codes

from napari_vqldm.inside import atoms


def planted_atom(model: Any, code: int, background: int) -> np.ndarray:
    """What a code paints instead of background: the kernels of all channels, added up."""
    vectors, kernel = model.space.quantizer.codebook.detach(), model.space.autoencoder.kernel.detach()
    change = (vectors[code] - vectors[background])[:, None, None, None, None]
    return (change * kernel).sum(dim=0)[0].numpy()


def test_the_atom_of_a_code_is_what_was_planted(viewer, tab, add_codes, idle, wait_until, planted_of) -> None:
    codes = some_codes((4, 8, 7), seed=3)
    add_codes(codes)
    tab.count()
    idle()
    assert tab.codes.maker.atoms == {}  # nobody looks yet
    tab.choose(5)
    details = tab.codes.details
    assert details.cells.text().startswith(f"{counts_of(codes)[5]} filament cells")
    wait_until(lambda: details.atom is not None)
    expected = planted_atom(planted_of, 5, 0)
    assert details.atom.volume.shape == tuple((2 * h + 1) * f for h, f in zip(REACH, FACTOR, strict=True))
    assert np.allclose(details.atom.volume.data, expected, atol=1e-5) and expected.max() > 1
    details.layer_button.click()
    layer = viewer.layers[-1]
    assert layer.name == "Atom of code 5" and np.allclose(layer.data, expected, atol=1e-5)
    tab.choose(7)
    wait_until(lambda: layer.name == "Atom of code 7")
    assert np.allclose(layer.data, planted_atom(planted_of, 7, 0), atol=1e-5)
    tab.choose(5)  # known already
    assert details.atom is not None and details.atom.code == 5
    tab.desk.undo.undo()
    assert [one.name for one in viewer.layers] == ["planted", "planted (codes)"]


def test_the_layer_has_the_whole_receptive_field_and_pictures_the_middle(
    viewer, tab, add_codes, idle, wait_until, planted_of, monkeypatch
) -> None:
    """The whole takes several times as long: it is measured for whoever asks for the layer."""
    monkeypatch.setattr(atoms, "MIDDLE", 1)
    add_codes(some_codes((4, 8, 7), seed=3))
    tab.count()
    idle()
    said: list[str] = []
    details, maker = tab.codes.details, tab.codes.maker
    maker.said_whole.connect(lambda _code, text: said.append(text))
    tab.choose(5)
    wait_until(lambda: details.atom is not None)
    expected = planted_atom(planted_of, 5, 0)
    assert not details.atom.is_whole and np.allclose(details.atom.volume.data, expected[:, 4:-4], atol=1e-5)
    assert maker.wholes == {} and details.layer_button.isEnabled()
    details.layer_button.click()
    assert not details.layer_button.isEnabled() and "Measuring all of it" in details.layer_button.text()
    wait_until(details.layer_button.isEnabled)
    assert said[1] == "Measuring all of it… 1 of 16" and said[-1] == ""
    layer = viewer.layers[-1]
    assert layer.name == "Atom of code 5" and np.allclose(layer.data, expected, atol=1e-5)
    assert details.layer_button.text() == "Show atom as layer"
    tab.choose(7)  # the layer follows
    wait_until(lambda: layer.name == "Atom of code 7")
    assert np.allclose(layer.data, planted_atom(planted_of, 7, 0), atol=1e-5)
    assert set(maker.wholes) == {5, 7}


def test_the_gallery_shows_the_atoms_of_all_used_codes(tab, add_codes, idle, planted_of) -> None:
    codes = some_codes()
    add_codes(codes)
    tab.count()
    idle()
    tab.codes.gallery.sort.setCurrentIndex(tab.codes.gallery.sort.findData("use"))
    tab.codes.gallery_fold.set_open(True)
    idle()
    used = set(np.unique(codes).tolist()) - {0}
    assert set(tab.codes.maker.atoms) == used == set(tab.codes.gallery.codes)
    first = tab.codes.maker.atoms[7]
    tab.count()  # of the same layer: its atoms are measured anew
    idle()
    assert set(tab.codes.maker.atoms) == used and tab.codes.maker.atoms[7] is not first


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_new_count_measures_the_atom_of_the_chosen_code_anew(tab, add_codes, idle, wait_until, planted_of) -> None:
    add_codes(some_codes(seed=1), "one")
    tab.count()
    idle()
    tab.choose(7)
    details = tab.codes.details
    wait_until(lambda: details.atom is not None)
    old = details.atom
    tab.count(add_codes(some_codes((4, 8, 7), seed=2), "two"))
    wait_until(lambda: details.atom is not None and details.atom is not old)
    assert details.atom.code == tab.state.code == 7 and details.atom.num_found != old.num_found
    assert details.places.text().endswith("places in 2 code maps")


def test_a_job_of_the_user_goes_before_the_gallery(tab, add_codes, idle, desk) -> None:
    ended: list[str] = []
    add_codes(some_codes())
    tab.count()
    idle()
    desk.runner.ended.connect(lambda job: ended.append(job.title))
    gate = threading.Event()

    def hold(_engine: object) -> Iterator[object]:
        gate.wait(60)
        yield from ()

    desk.run("Hold", hold)
    tab.codes.gallery.sort.setCurrentIndex(tab.codes.gallery.sort.findData("use"))
    tab.codes.gallery_fold.set_open(True)
    assert "Atoms of 5 codes" in [job.title for job in desk.runner.waiting]
    desk.run("Mine", lambda _engine: iter(()))
    gate.set()
    idle()
    assert ended.index("Mine") < max(k for k, title in enumerate(ended) if title.startswith("Atoms"))
    assert len(tab.codes.maker.atoms) == 5


def test_without_background_there_is_no_atom_and_it_is_said(tab, add_codes, idle, wait_until, desk) -> None:
    codes = np.full((3, 6, 5), 7)
    codes[1] = 6
    add_codes(codes)
    tab.count()
    idle()
    tab.choose(6)
    assert tab.state.found.background_code is None
    wait_until(lambda: "no cell of these stacks is background" in tab.codes.details.atom_text.text())
    assert desk.failures == []


def test_a_plane_that_takes_long_is_laid_out_in_the_background(tab, add_codes, idle, monkeypatch, planted_of) -> None:
    from napari_vqldm.inside import plane as core

    add_codes(some_codes())
    tab.count()
    idle()
    plane, vectors = tab.codes.plane, planted_of.space.quantizer.codebook.detach().numpy()
    assert np.allclose(plane.points, core.codebook_plane(vectors))
    with monkeypatch.context() as patch:
        patch.setattr(core, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
        plane.choice.setCurrentIndex(plane.choice.findData("tsne"))
        idle()
    assert "pip install scikit-learn" in plane.text.text() and plane.method == "pca"
    monkeypatch.setattr(core, "_tsne", lambda vectors, start: start[::-1])
    plane.choice.setCurrentIndex(plane.choice.findData("tsne"))
    idle()
    assert plane.method == "tsne" and np.allclose(plane.points, core.codebook_plane(vectors)[::-1])
