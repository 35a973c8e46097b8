"""Folders in the Codebook tab: streamed in flat memory, broken files named, a stop leaves what was counted."""

from __future__ import annotations

import threading
import tracemalloc
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.planted_model import planted_volume
from tests.plugin.codebook.conftest import FACTOR, counts_of, some_codes

MAP_BYTES = 3 * 6 * 5 * (4 + 1 + 1)  # codes, is_filament, is_padded of one small volume


def fill(folder: Path, num: int) -> np.ndarray:
    """Write so many small stacks; return the cells of every code in all of them."""
    from napari_vqldm import write_volume

    folder.mkdir()
    total = np.zeros(8, np.int64)
    for number in range(num):
        codes = some_codes(seed=number)
        write_volume(folder / f"{number:03d}.ome.tif", planted_volume(codes, FACTOR, f"{number:03d}"))
        total += counts_of(codes)
    return total


@pytest.fixture
def live_bytes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Bytes of all volumes that are alive, and the most there were."""
    from napari_vqldm.volume import Volume

    found = {"now": 0, "most": 0}
    check = Volume.__post_init__

    def go(num: int) -> None:
        found["now"] -= num

    def come(volume: Any) -> None:
        check(volume)
        found["now"] += volume.data.nbytes
        found["most"] = max(found["most"], found["now"])
        weakref.finalize(volume, go, volume.data.nbytes)

    monkeypatch.setattr(Volume, "__post_init__", come)
    return found


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are shown after the first file and after the last, however slow the computer is."""
    from napari_vqldm.plugin.tabs.codebook import work

    monkeypatch.setattr(work, "PAUSE_S", 1e9)


@pytest.fixture
def survey(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replace arguments of the survey: ``survey(context_bytes=..., read=...)``."""
    from napari_vqldm.inside import survey as module

    steps = module.survey_steps
    return lambda **arguments: monkeypatch.setattr(module, "survey_steps", partial(steps, **arguments))


@pytest.mark.slow
@pytest.mark.both_bindings
def test_200_volumes_are_counted_in_the_memory_of_20(
    viewer, tab, idle, tmp_path, survey, few_pictures, live_bytes, desk
) -> None:
    survey(context_bytes=10 * MAP_BYTES)
    fill(tmp_path / "few", 20)
    total = fill(tmp_path / "many", 200)
    live_bytes["most"] = live_bytes["now"]
    tab.count_folder(tmp_path / "few")  # once before it is looked at: caches fill
    idle()
    tracemalloc.start()
    tab.count_folder(tmp_path / "few")
    idle()
    few_bytes = tracemalloc.get_traced_memory()[1]
    few = live_bytes["most"]
    assert few > live_bytes["now"] and tab.state.found.what == "20 volumes of folder few"
    live_bytes["most"] = live_bytes["now"]
    seen: list[tuple[int, bool]] = []
    tab.state.counted.connect(lambda: seen.append((tab.state.found.num_volumes, tab.state.found.is_complete)))
    tracemalloc.reset_peak()
    tab.count_folder(tmp_path / "many")
    idle()
    many_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    found = tab.state.found
    assert desk.failures == [] and found.what == "200 volumes of folder many"
    assert found.usage.everywhere.counts.tolist() == total.tolist()
    assert live_bytes["most"] <= few  # no volume of an earlier file is alive
    assert many_bytes < few_bytes + 2**20  # nor much else: names and lines of 180 more files
    assert len(found.contexts) == 10 and len(viewer.layers) == 0
    assert seen == [(1, False), (200, True)]


def test_a_broken_file_is_named_and_left_out(tab, idle, tmp_path, desk) -> None:
    total = fill(tmp_path / "in", 3)
    (tmp_path / "in" / "broken.tif").write_bytes(b"II*\0 and no more")
    (tmp_path / "in" / "words.txt").write_text("no volume")
    tab.count_folder(tmp_path / "in")
    idle()
    found = tab.state.found
    assert found.usage.everywhere.counts.tolist() == total.tolist()
    assert found.num_volumes == 3 and len(found.problems) == 1 and desk.failures == []
    assert tab.problems.isVisible() and "broken.tif" in tab.problems.text() and "words" not in tab.problems.text()
    assert tab.codes.histogram.title.text() == "3 volumes of folder in (1 left out): 8 codes"
    tab.choose(7)
    assert "No code map is shown" in tab.codes.details.places.text()


@pytest.mark.slow
@pytest.mark.both_bindings
def test_a_folder_without_a_usable_file_is_an_error_and_leaves_the_old_counts(tab, idle, tmp_path, desk) -> None:
    fill(tmp_path / "in", 1)
    tab.count_folder(tmp_path / "in")
    idle()
    old = tab.state.found
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "broken.tif").write_bytes(b"II*\0 and no more")
    for name, words in (("bad", "broken.tif"), ("none", "no such folder")):
        tab.count_folder(tmp_path / name)
        idle()
        assert words in str(desk.failures.pop()) and desk.failures == []
        assert tab.state.found is old and tab.source.button.isEnabled()


def test_a_stop_leaves_what_was_counted_so_far(tab, idle, tmp_path, survey, few_pictures, wait_until, desk) -> None:
    from napari_vqldm.files import read_volume

    fill(tmp_path / "in", 6)
    at_the_third, gate = threading.Event(), threading.Event()

    def read(path: Path) -> Any:
        if path.name == "002.ome.tif":
            at_the_third.set()
            gate.wait(60)
        return read_volume(path)

    survey(read=read)
    tab.count_folder(tmp_path / "in")
    wait_until(lambda: at_the_third.is_set() and tab.state.found is not None)
    found = tab.state.found
    assert not found.is_complete and "so far" in tab.codes.histogram.title.text()
    assert tab.codes.maker.atoms == {}
    desk.runner.running.cancel()
    gate.set()
    idle()
    assert tab.state.found.is_complete and tab.state.found.usage is found.usage
    assert tab.codes.histogram.title.text() == "folder in (stopped after 1 volume): 8 codes"
    assert tab.source.button.isEnabled() and desk.failures == []
