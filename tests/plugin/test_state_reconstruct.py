"""What the Reconstruct tab decides, without a screen."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from napari_vqldm.errors import ConfigError, VolumeError
from napari_vqldm.files import open_stack, read_volume, write_volume
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.plugin.layers.info import LayerInfo
from napari_vqldm.plugin.state.open_volume import OpenState, content_of
from napari_vqldm.plugin.state.reconstruct import ReconstructState
from napari_vqldm.volume import Volume

STACK = LayerInfo("stack", (8, 16, 16), True, spatial_axes=(0, 1, 2), voxel_size_um=(0.2, 0.1, 0.1))
UNSCALED = LayerInfo("stack", (8, 16, 16), True, spatial_axes=(0, 1, 2))
SERIES = LayerInfo("movie", (5, 8, 16, 16), True, time_axis=0, spatial_axes=(1, 2, 3), voxel_size_um=(0.2, 0.1, 0.1))


def test_the_request_reaches_every_parameter_of_the_core_and_no_other() -> None:
    from napari_vqldm.reconstruct import reconstruct_steps

    state = ReconstructState(background=100.0, scale=20.0, max_voxels=2**16)
    assert set(state.to_request()) == set(inspect.signature(reconstruct_steps).parameters) - {"model", "volume"}
    assert state.to_request()["intensity"] == IntensityScale(100.0, 20.0)
    assert ReconstructState().to_request() == {}


def test_the_uncertainty_request_reaches_every_parameter_of_the_core() -> None:
    from napari_vqldm.uncertainty import uncertainty_steps

    state = ReconstructState(background=100.0, scale=20.0, max_voxels=2**16)
    sent = {**state.to_uncertainty_request(), **state.to_request()}
    assert set(sent) == set(inspect.signature(uncertainty_steps).parameters) - {"model", "volume"}


def test_half_an_intensity_scale_is_refused_before_the_job() -> None:
    state = ReconstructState(background=100.0)
    with pytest.raises(ConfigError, match="give both or none"):
        state.to_request()
    assert "both or none" in state.why_not(has_model=True, info=STACK)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"has_model": False, "info": STACK}, "No model is open"),
        ({"has_model": True, "info": None, "num_layers": 0}, "There is no image layer"),
        ({"has_model": True, "info": None, "num_layers": 2}, "Choose an image layer"),
        ({"has_model": True, "info": LayerInfo("x", (16, 16), False, "'x' is a 2D image")}, "'x' is a 2D image."),
        ({"has_model": True, "info": STACK, "is_running": True}, "is running"),
        ({"has_model": True, "info": UNSCALED}, "The voxel size along z, y, x is not known"),
    ],
)
def test_each_obstacle_has_its_own_line(arguments: dict[str, object], words: str) -> None:
    state = ReconstructState()
    state.take_voxel_size_of(arguments["info"])  # type: ignore[arg-type]
    reason = state.why_not(**arguments)  # type: ignore[arg-type]
    assert words in reason and reason.endswith(".") and "\n" not in reason


def test_a_usable_layer_has_no_obstacle() -> None:
    state = ReconstructState()
    state.take_voxel_size_of(STACK)
    assert state.why_not(has_model=True, info=STACK) == ""


def test_the_voxel_size_of_the_layer_counts_until_another_is_entered() -> None:
    state = ReconstructState()
    state.take_voxel_size_of(STACK)
    assert state.voxel_size_um(STACK) is None
    assert "from the layer" in state.voxel_size_text(STACK)
    state.uses_typed = True
    assert state.voxel_size_um(STACK) == (0.2, 0.1, 0.1)
    state.typed_voxel_size_um = (0.3, 0.1, 0.1)
    assert state.voxel_size_um(STACK) == (0.3, 0.1, 0.1)
    assert "as entered" in state.voxel_size_text(STACK)


def test_a_layer_without_voxel_size_needs_all_three_numbers() -> None:
    state = ReconstructState()
    state.take_voxel_size_of(UNSCALED)
    state.typed_voxel_size_um = (0.2, 0.0, 0.1)
    with pytest.raises(VolumeError, match="along y is not known"):
        state.voxel_size_um(UNSCALED)
    state.typed_voxel_size_um = (0.2, 0.1, 0.1)
    assert state.voxel_size_um(UNSCALED) == (0.2, 0.1, 0.1)


def test_an_assumed_unit_is_said() -> None:
    info = LayerInfo("s", (8, 16, 16), True, voxel_size_um=(2.0, 1.0, 1.0), is_assumed_um=True)
    assert "taken as micrometres: check it" in ReconstructState().voxel_size_text(info)


def test_all_frames_are_meant_only_where_there_are_several() -> None:
    assert ReconstructState(frames="all").takes_all_frames(SERIES)
    assert not ReconstructState(frames="this").takes_all_frames(SERIES)
    assert not ReconstructState(frames="all").takes_all_frames(STACK)


def test_the_posterior_is_for_ldm_alone() -> None:
    assert ReconstructState(kind="posterior").why_no_uncertainty("vq-ldm")
    assert not ReconstructState(kind="posterior").why_no_uncertainty("ldm")
    assert not ReconstructState(kind="noise").why_no_uncertainty("vq-ldm")


def test_changes_are_told() -> None:
    state, seen = ReconstructState(), []
    state.events.region.connect(seen.append)
    state.region = "view"
    assert seen == ["view"]


# --- open volume ------------------------------------------------------------------------------------------------------


def _write(path: Path, shape: tuple[int, ...], axes: str, **metadata: object) -> Path:
    import tifffile

    data = np.random.default_rng(0).integers(0, 1000, shape).astype(np.uint16)
    tifffile.imwrite(path, data, ome=True, photometric="minisblack", metadata={"axes": axes, **metadata})
    return path


def test_a_file_of_ours_leaves_no_choice(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((4, 8, 8), np.float32)
    path = write_volume(tmp_path / "own.ome.tif", Volume(data, (0.2, 0.1, 0.1)))
    state = OpenState()
    state.take(content_of(path, open_stack(path)))
    assert not state.needs_choice and state.why_not() == ""
    assert state.times() == (None,) and state.to_request() == {}


def test_the_request_opens_the_chosen_channel_and_time(tmp_path: Path) -> None:
    path = _write(tmp_path / "movie.ome.tif", (3, 2, 4, 8, 8), "TCZYX")
    state = OpenState()
    state.take(content_of(path, open_stack(path)))
    assert state.needs_choice and "no voxel size" in state.why_not()
    with pytest.raises(VolumeError, match="enter z, y and x"):
        state.to_request()
    state.voxel_size_um, state.channel, state.time = (0.2, 0.1, 0.1), 1, 2
    (time,) = state.times()
    volume = read_volume(path, time=time, **state.to_request())
    import tifffile

    assert np.array_equal(volume.data, tifffile.imread(path)[2, 1])
    state.all_times = True
    assert state.times() == (0, 1, 2)


def test_an_axis_without_a_name_is_taken_for_time_and_said(tmp_path: Path) -> None:
    path = tmp_path / "bare.npy"
    np.save(path, np.random.default_rng(0).random((5, 4, 8, 8)))
    content = content_of(path, open_stack(path))
    assert content.num_times == 5 and content.is_time_assumed


def test_the_request_keys_are_those_of_read_volume() -> None:
    names = set(inspect.signature(read_volume).parameters)
    assert {"channel", "voxel_size_um", "time"} <= names
