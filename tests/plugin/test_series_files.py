"""Files of a series that the dock made: read in one go, written without holding up the viewer, on the same axis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.plugin.test_lazy_frames import NUM, Decoder, Table, truth

from napari_vqldm.errors import VolumeError
from napari_vqldm.files import open_stack, read_series, read_volume, write_series
from napari_vqldm.files.provenance import SeriesAxis, axis_of, make_provenance, series_record
from napari_vqldm.plugin import writers
from napari_vqldm.plugin.layers import describe, snapshot
from napari_vqldm.plugin.layers.lazy_frames import LazyFrames
from napari_vqldm.plugin.opening import work as opening
from napari_vqldm.plugin.opening.work import Opened, ReadStep, open_work
from napari_vqldm.plugin.readers import read_layers
from napari_vqldm.plugin.state.open_volume import content_of
from napari_vqldm.plugin.writers import frames_of, save_work, series_axis, write_image
from napari_vqldm.volume import Volume

SIZE = (0.3, 0.1, 0.2)
MOVIE = SeriesAxis(2.0, 1.0, "second", "t")
RECORDS = [make_provenance("interpolate", t=t) for t in range(12)]
ATTRIBUTES: dict[str, Any] = {
    "name": "way",
    "contrast_limits": (0, 1),
    "scale": (2.0, *SIZE),
    "translate": (1.0, 0, 0, 0),
    "units": ("s", "um", "um", "um"),
    "axis_labels": ("t", "z", "y", "x"),
    "metadata": {"napari_vqldm": series_record(RECORDS[:NUM])},
}


def volumes(count: int = NUM) -> list[Volume]:
    return [Volume(truth(seed), SIZE, RECORDS[seed], "way") for seed in range(count)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every opening of a TIFF file."""
    names: list[str] = []
    whole = tifffile.TiffFile.__init__

    def counted(self: Any, file: Any, *args: Any, **options: Any) -> None:
        names.append(str(file))
        whole(self, file, *args, **options)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", counted)
    return names


@pytest.fixture
def frames(qapp: Any) -> Iterator[LazyFrames]:
    table = Table()
    frames = LazyFrames(NUM, truth(0).shape, Decoder(), None, table)  # type: ignore[arg-type]
    yield frames
    frames.close()
    table.runner.close()


def run(work: Any) -> tuple[list[Any], Any]:
    steps, running = [], work(None)
    while True:
        try:
            steps.append(next(running))
        except StopIteration as stop:
            return steps, stop.value


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_dropped_series_is_opened_as_often_as_a_short_one(tmp_path: Path, opened: list[str]) -> None:
    counts = []
    for num in (2, 12):
        path = write_series(tmp_path / f"{num}.ome.tif", volumes(num), axis=MOVIE)
        opened.clear()
        ((data, _, _),) = read_layers(str(path))
        counts.append(len(opened))
        np.testing.assert_array_equal(data, [volume.data for volume in volumes(num)])
    assert counts[0] == counts[1]


def test_all_time_points_are_opened_as_often_as_two(tmp_path: Path, opened: list[str]) -> None:
    counts = []
    for num in (2, 12):
        path = write_series(tmp_path / f"{num}.ome.tif", volumes(num), axis=MOVIE)
        content = content_of(path, open_stack(path))
        opened.clear()
        steps, result = run(open_work(content, range(num), {"voxel_size_um": SIZE}))
        counts.append(len(opened))
        assert isinstance(result, Opened) and steps == [ReadStep(i, num) for i in range(num)]
        assert [file.time for file in result.inputs.values()] == list(range(num)) and result.axis == MOVIE
        np.testing.assert_array_equal(result.frames, [volume.data for volume in volumes(num)])
        assert [volume.provenance for volume in result.volumes] == RECORDS[:num]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_a_series_that_does_not_fit_is_not_read(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_series(tmp_path / f"a{suffix}", volumes())
    needed = 4 * truth(0).size * (NUM + 2)
    monkeypatch.setattr("napari_vqldm.memory.available_bytes", lambda *_: needed)
    assert len(read_layers(str(path))) == 1
    monkeypatch.setattr("napari_vqldm.memory.available_bytes", lambda *_: needed - 1)
    with pytest.raises(VolumeError, match="open one time point"):
        read_layers(str(path))
    assert opening.check_memory(content_of(path, open_stack(path)), 1) is None  # of which the dock reads one


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_a_dropped_series_lies_where_it_lay(tmp_path: Path, suffix: str) -> None:
    ((_, attributes, _),) = read_layers(str(write_series(tmp_path / f"a{suffix}", volumes(), axis=MOVIE)))
    assert (attributes["scale"], attributes["translate"]) == ((2.0, *SIZE), (1.0, 0.0, 0.0, 0.0))
    assert attributes["units"] == ("second", "um", "um", "um") and attributes["axis_labels"] == ("t", "z", "y", "x")


@pytest.mark.parametrize("unit", ["nonsense", "3 s", "", "(", "s; s"])
def test_a_unit_that_napari_does_not_know_keeps_no_file_from_opening(tmp_path: Path, unit: str) -> None:
    from napari.layers import Image

    path = write_series(tmp_path / "a.ome.tif", volumes(2), axis=SeriesAxis(0.5, unit=unit))
    ((data, attributes, _),) = read_layers(str(path))
    assert str(Image(data, **attributes).units[0]) == "pixel" and attributes["scale"][0] == 0.5


# --- writing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ome.tif", ".zarr"])
def test_both_ways_of_saving_keep_the_axis(tmp_path: Path, suffix: str) -> None:
    from napari.layers import Image

    data = np.stack([truth(index) for index in range(NUM)])
    write_image(str(tmp_path / f"menu{suffix}"), data, ATTRIBUTES)
    layer = Image(data, **ATTRIBUTES)
    info = describe(layer)
    run(save_work(tmp_path / f"dock{suffix}", frames_of(layer, info), series_axis(layer, info)))
    for name in ("menu", "dock"):
        assert axis_of(open_stack(tmp_path / f"{name}{suffix}").provenance) == MOVIE
    assert series_axis(Image(data[0]), describe(Image(data[0]))) is None


def test_frames_that_are_still_to_be_decoded_are_refused(tmp_path: Path, frames: LazyFrames) -> None:
    path = tmp_path / "way.ome.tif"
    frames.frame(0)
    with pytest.raises(VolumeError, match=f"'way': {NUM - 1} of its {NUM} frames are not decoded: use Save"):
        write_image(str(path), frames, ATTRIBUTES)
    assert list(tmp_path.iterdir()) == [] and frames.num_ready == 1
    for index in range(NUM):
        frames.frame(index)
    write_image(str(path), frames, ATTRIBUTES)
    for index, volume in enumerate(read_series(path)):
        np.testing.assert_array_equal(volume.data, truth(index))
    assert read_volume(path, time=1).provenance["request"]["t"] == 1


def test_frames_of_a_closed_dock_are_refused_without_sending_anybody_there(tmp_path: Path, frames: LazyFrames) -> None:
    frames.close()
    with pytest.raises(VolumeError, match="make the layer anew"):
        write_image(str(tmp_path / "way.ome.tif"), frames, ATTRIBUTES)
    assert list(tmp_path.iterdir()) == []


def test_the_menu_writes_no_series_that_does_not_fit(
    tmp_path: Path, frames: LazyFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(NUM):
        frames.frame(index)
    monkeypatch.setattr(writers, "available_bytes", lambda *_: frames.nbytes - 1)
    with pytest.raises(VolumeError, match=f"all {NUM} frames take"):
        write_image(str(tmp_path / "way.ome.tif"), frames, ATTRIBUTES)
    assert list(tmp_path.iterdir()) == []


def test_a_series_that_was_opened_is_saved_again_as_it_was(tmp_path: Path) -> None:
    from napari.layers import Image

    path = write_series(tmp_path / "a.zarr", volumes(), axis=MOVIE)
    ((data, attributes, _),) = read_layers(str(path))
    again = write_image(str(tmp_path / "b.zarr"), data, attributes)
    assert open_stack(again[0]).provenance == open_stack(path).provenance
    assert snapshot(Image(data, **attributes), time=2).provenance == RECORDS[2]
