"""The code map in the viewer: its place to a millionth of a cell, what lights up, the way to a place."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from tests.planted_model import STEP, planted_volume
from tests.plugin.codebook.conftest import FACTOR, SIZE, some_codes
from tests.plugin.codebook.viewing import count, is_lit, pixel_of, pixels, show_map

from napari_vqldm.plugin.compat import camera_of

# Of layers that are turned out of the plane, napari warns that it shows no true planes.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")

TURNED = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
AFFINE = np.array([[1, 0, 0, 3.0], [0, 0, 1.5, -2.0], [0, -1, 0.2, 0.0], [0, 0, 0, 1]])
UM, NM = ("um",) * 3, ("nm",) * 3
PLACES: dict[str, dict[str, Any]] = {
    "plain": {"scale": SIZE, "units": UM},
    "translated": {"scale": SIZE, "units": UM, "translate": (5.0, -3.0, 0.7)},
    "nm": {"scale": tuple(1000 * s for s in SIZE), "units": NM, "translate": (900.0, 50.0, -7.0)},
    "rotated": {"scale": SIZE, "units": UM, "rotate": TURNED, "translate": (1.0, 2.0, 3.0)},
    "sheared": {"scale": SIZE, "units": UM, "shear": (0.3, -0.2, 0.5), "translate": (1.0, 2.0, 3.0)},
    "affine": {"scale": SIZE, "units": UM, "affine": AFFINE},
}


@pytest.fixture
def state(qtbot: Any) -> Any:
    from napari_vqldm.plugin.tabs.codebook.state import CodebookState

    return CodebookState()


@pytest.fixture
def model() -> Any:
    """A viewer without a window."""
    from napari.components import ViewerModel

    return ViewerModel()


def bead(shape: tuple[int, int, int], voxel: tuple[int, int, int], code: int = 5) -> np.ndarray[Any, Any]:
    """A stack in which one voxel gives its cell a code; all others have code 0."""
    data = np.zeros(shape, np.float32)
    data[voxel] = code * STEP * np.prod(FACTOR)
    return data


# --- place ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "voxel",
    [
        (3, 9, 10),
        (4, 10, 11),
        *(pytest.param(voxel, marks=pytest.mark.slow) for voxel in ((5, 9, 10), (3, 13, 10), (2, 2, 3), (4, 17, 6))),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_the_cell_of_a_bead_covers_it(
    model: Any, planted_of: Any, state: Any, place: str, voxel: tuple[int, int, int]
) -> None:
    """Shifted by a cell, and by a part of one; in a stack that had to be padded."""
    stack = model.add_image(bead((7, 22, 17), voxel), name="bead", **PLACES[place])
    shown = show_map(model, planted_of, stack, state)
    _check_bead(stack, shown, voxel, (0, 0, 0))


@pytest.mark.parametrize("place", ["nm", "rotated", "sheared"])
def test_the_cells_of_a_region_lie_on_the_region(model: Any, planted_of: Any, state: Any, place: str) -> None:
    stack = model.add_image(bead((9, 40, 31), (4, 20, 15)), name="bead", **PLACES[place])
    shown = show_map(model, planted_of, stack, state, box=((1, 8), (11, 33), (6, 23)))
    _check_bead(stack, shown, (4, 20, 15), (1, 11, 6))


def test_one_time_point_of_a_series(model: Any, planted_of: Any, state: Any) -> None:
    data = np.stack([bead((7, 22, 17), (3, 9, 10), code) for code in (3, 6)])
    place = {"scale": (2.0, *SIZE), "translate": (0.0, 1.0, 2.0, 3.0), "units": ("s", *UM)}
    series = model.add_image(data, name="series", axis_labels=("t", "z", "y", "x"), **place)
    shown = show_map(model, planted_of, series, state, time=1)
    assert int(shown.code_map.codes.max()) == 6 and shown.layer.ndim == 3
    (cell,) = shown.places(6)
    ours, theirs = shown.layer.data_to_world(cell), series.data_to_world((1, 3, 9, 10))[1:]
    assert np.all(np.abs(np.subtract(ours, theirs)) <= np.multiply(SIZE, FACTOR) / 2)


def test_cells_of_a_resampled_stack_cover_the_bead(model: Any, planted_of: Any, state: Any) -> None:
    """Voxels that the model does not know are resampled: cells are no whole number of voxels."""
    from napari_vqldm.inside.codes import channel_images
    from napari_vqldm.plugin.layers import snapshot
    from napari_vqldm.plugin.tabs.codebook.cell_layers import add_cells

    for voxel in [(2, 5, 7), (6, 10, 3), (7, 16, 19)]:
        data = np.zeros((10, 20, 22), np.float32)
        data[voxel] = 40.0
        stack = model.add_image(data, name="coarse", scale=(0.7, 0.35, 0.4), units=UM, rotate=TURNED)
        shown = show_map(model, planted_of, stack, state)
        sizes = np.divide(shown.code_map.cell_size_um, (0.7, 0.35, 0.4))
        assert not np.allclose(sizes, np.rint(sizes)), "the stack was not resampled"
        channel = channel_images(planted_of, shown.code_map.latent)[0]
        for layer in (shown.layer, add_cells(model, channel, snapshot(stack))):
            brightest = np.unravel_index(np.argmax(layer.data), layer.data.shape)
            found = layer.world_to_data(stack.data_to_world(voxel))
            assert np.all(np.abs(found - brightest) <= 0.5 + 1e-6)


def _check_bead(stack: Any, shown: Any, voxel: tuple[int, int, int], first: tuple[int, int, int]) -> None:
    """The one cell with a code lies where the padding, the voxels of a cell and the first voxel of a region put it."""
    (cell,) = shown.places(5)
    before = shown.code_map.latent.padding.before
    coded = np.add(np.subtract(voxel, first), before)  # voxel of the padded region
    assert cell.tolist() == (coded // FACTOR).tolist()
    in_cells = (coded + 0.5) / FACTOR - 0.5
    found = shown.layer.world_to_data(stack.data_to_world(voxel))
    assert np.allclose(found, in_cells, rtol=0.0, atol=1e-6)
    assert [str(unit) for unit in shown.layer.units] == [str(unit) for unit in stack.units]


# --- data and colors --------------------------------------------------------------------------------------------------


@pytest.fixture
def planted_map(model: Any, planted_of: Any, state: Any) -> Any:
    return _planted_map(model, planted_of, state)


def _planted_map(viewer: Any, planted_of: Any, state: Any) -> Any:
    volume = planted_volume(some_codes(), FACTOR)
    stack = viewer.add_image(volume.data, name="planted", scale=SIZE, units=UM, contrast_limits=(0.0, 8.0))
    return show_map(viewer, planted_of, stack, state)


def test_values_are_codes_and_one(planted_map: Any) -> None:
    layer = planted_map.layer
    assert np.array_equal(layer.data, some_codes() + 1) and layer.data.dtype == np.uint16
    assert layer.name == "planted (codes)"
    record = layer.metadata["napari_vqldm"]
    assert record["stack"] == "planted" and record["model"] == planted_map.code_map.latent.model_name
    assert record["encoded"]["verb"] == "encode" and "verb" not in record  # there is no script that makes it
    row = layer.features.iloc[4]
    assert (row["index"], row["code"], row["cells"]) == (5, 4, (some_codes() == 4).sum())


def test_chosen_codes_light_up_wherever_they_stand(planted_map: Any, model: Any, state: Any) -> None:
    from napari_vqldm.plugin.tabs.codebook.map_layer import DIMMED_OPACITY, LIT

    layer, codes = planted_map.layer, some_codes()
    before, plain = layer.data.copy(), _colors(layer)
    assert len(np.unique(plain[..., :3].reshape(-1, 3), axis=0)) == len(np.unique(codes))
    for ndisplay, others in ((2, DIMMED_OPACITY), (3, 0.0)):
        model.dims.ndisplay = ndisplay
        for chosen in ((4,), (0,), (2, 5, 7)):
            state.choose(chosen)
            colors, is_chosen = _colors(layer), np.isin(codes, chosen)
            assert np.allclose(colors[is_chosen], LIT)
            assert np.allclose(colors[~is_chosen][:, 3], others)
            assert not np.allclose(colors[~is_chosen][:, :3], LIT[:3], atol=0.05)
        state.choose(())
    model.dims.ndisplay = 2
    assert np.array_equal(_colors(layer), plain)
    assert np.array_equal(layer.data, before)


def test_code_0_is_a_code(planted_map: Any) -> None:
    """napari takes the value 0 for nothing; code 0 has the value 1, a color and places."""
    codes = some_codes()
    assert np.array_equal(planted_map.places(0), np.argwhere(codes == 0))
    assert _colors(planted_map.layer)[codes == 0][:, 3].min() > 0.0


def test_in_3d_the_background_is_hidden(planted_map: Any, model: Any) -> None:
    is_filament = planted_map.code_map.is_filament
    assert is_filament.any() and not is_filament.all()
    assert _colors(planted_map.layer)[..., 3].min() > 0.0  # in 2D all is seen, filaments more
    assert _colors(planted_map.layer)[is_filament][:, 3].min() > _colors(planted_map.layer)[~is_filament][:, 3].max()
    model.dims.ndisplay = 3
    assert np.array_equal(_colors(planted_map.layer)[..., 3] > 0.0, is_filament)


def test_a_stack_without_filaments_shows_its_cells_in_3d(model: Any, planted_of: Any, state: Any) -> None:
    codes = np.zeros((3, 6, 5), np.int32)
    codes[0, 0, 0] = 1  # no volume may be constant
    stack = model.add_image(planted_volume(codes, FACTOR).data, name="empty", scale=SIZE, units=UM)
    shown = show_map(model, planted_of, stack, state)
    assert not shown.code_map.is_filament.any()
    model.dims.ndisplay = 3
    assert _colors(shown.layer)[..., 3].min() == 1.0


@pytest.mark.slow
@pytest.mark.both_bindings
def test_pixels_of_chosen_codes_alone_are_lit(shown_viewer: Any, planted_of: Any, state: Any) -> None:
    shown, codes = _planted_map(shown_viewer, planted_of, state), some_codes()
    for plane in range(len(codes)):
        shown_viewer.dims.set_point(0, float(shown.layer.data_to_world((plane, 0, 0))[0]))
        for chosen in ((5,), (2, 7)):
            state.choose(chosen)
            picture = pixels(shown_viewer)
            for y, x in np.ndindex(codes[plane].shape):
                px, py = pixel_of(shown_viewer, shown.layer, (plane, y, x))
                assert bool(is_lit(picture[py, px])) == (codes[plane, y, x] in chosen), (plane, y, x)
    shown_viewer.dims.ndisplay = 3  # seen along z, whatever stands above or below
    shown_viewer.layers["planted"].visible = False
    camera_of(shown_viewer).angles = (0.0, 0.0, 0.0)
    state.choose(7)
    picture = pixels(shown_viewer)
    for y, x in np.ndindex(codes[0].shape):
        px, py = pixel_of(shown_viewer, shown.layer, (1, y, x))
        assert bool(is_lit(picture[py, px])) == bool((codes[:, y, x] == 7).any()), (y, x)
    shown.close()


def _random_map(viewer: Any, state: Any, size: int, shape: tuple[int, int, int]) -> Any:
    """The map of a stack in which all codes are equally common."""
    from types import SimpleNamespace

    from napari_vqldm.codebook import count_codes
    from napari_vqldm.inside.codes import CodeMap
    from napari_vqldm.plugin.layers import snapshot
    from napari_vqldm.plugin.tabs.codebook.map_layer import CodeMapLayer

    random = np.random.default_rng(0)
    codes = random.integers(0, size, shape, np.int32)
    is_filament = random.random(shape) < 0.1
    latent = SimpleNamespace(model_name="m", weights_sha256="s", provenance={})
    usage = count_codes(codes, is_filament, size)
    found = CodeMap(codes, is_filament, is_filament, (0.4,) * 3, (0.0,) * 3, usage, latent)  # type: ignore[arg-type]
    stack = viewer.add_image(random.random((8, 8, 8)).astype(np.float32), scale=SIZE, units=UM)
    count(state, found)
    return CodeMapLayer(viewer, found, snapshot(stack), state)


def test_lighting_up_takes_no_time(model: Any, state: Any) -> None:
    """A map of 16 x 64 x 64 cells and 1024 codes: the colors are there long before a tenth of a second is over."""
    shown = _random_map(model, state, 1024, (16, 64, 64))
    seconds = []
    for code in range(5):
        began = time.perf_counter()
        state.choose(code)
        seconds.append(time.perf_counter() - began)
        assert np.allclose(_colors(shown.layer)[shown.code_map.codes == code][:, :3], (1.0, 0.85, 0.1))
    assert min(seconds) < 0.1


@pytest.mark.parametrize("size", [2**16 - 2, 2**16 - 1, 2**16, 100_000])
def test_codebooks_as_large_as_they_come(model: Any, state: Any, size: int) -> None:
    """Values above 16 bits; colors repeat after 65 534 codes, places do not."""
    shown = _random_map(model, state, size, (4, 20, 20))
    codes = shown.code_map.codes
    assert np.array_equal(shown.layer.data, codes.astype(np.int64) + 1)
    code = int(codes.max())
    state.choose(code)
    is_lit_there = np.isclose(_colors(shown.layer)[..., :3], (1.0, 0.85, 0.1)).all(axis=-1)
    assert np.array_equal(is_lit_there, codes % (2**16 - 2) == code % (2**16 - 2))
    assert np.array_equal(shown.places(code), np.argwhere(codes == code))


def _colors(layer: Any) -> np.ndarray[Any, Any]:
    """Color (..., 4) that a layer gives each of its cells."""
    return np.asarray(layer.colormap.map(layer.data))


# --- places, and the end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["plain", "nm", "rotated"])
def test_the_view_goes_to_a_place(model: Any, planted_of: Any, state: Any, place: str) -> None:
    codes = some_codes()
    stack = model.add_image(planted_volume(codes, FACTOR).data, name="planted", **PLACES[place])
    shown = show_map(model, planted_of, stack, state)
    assert not shown.go_to(0)  # nothing is chosen
    state.choose((2, 5))
    assert not shown.go_to(0)
    state.choose(5)
    places = np.argwhere(codes == 5)
    assert len(places) > 1 and np.array_equal(shown.places(5), places)
    for ndisplay in (2, 3):
        model.dims.ndisplay = ndisplay
        for index in (0, len(places) - 1, len(places)):
            assert shown.go_to(index)
            middle = np.array(shown.layer.data_to_world(places[index % len(places)]))
            assert np.allclose(camera_of(model).center[-ndisplay:], middle[-ndisplay:])
            step = stack.scale[0]  # the sliders stand at planes of voxels
            assert abs(model.dims.point[0] - middle[0]) <= step
    state.choose(3)  # stands nowhere
    assert not shown.go_to(0)


def test_the_way_to_a_place_and_back_among_layers_of_other_units(model: Any, planted_of: Any, state: Any) -> None:
    """The world of um and nm is in nm."""
    model.add_image(np.ones((4, 4, 4)), name="other", scale=(200.0, 100.0, 100.0), units=NM)
    shown = _planted_map(model, planted_of, state)
    assert np.allclose(shown.to_cells((0.5 * 200.0, 1.5 * 100.0, (1.5 + 4.0) * 100.0)), (0.0, 0.0, 1.0))
    state.choose(5)
    assert shown.go_to(0)
    _z, y, x = shown.places(5)[0]
    assert np.allclose(camera_of(model).center[-2:], ((4 * y + 1.5) * 100.0, (4 * x + 1.5) * 100.0))


def test_a_layer_that_is_gone_or_comes_back(planted_map: Any, model: Any, state: Any) -> None:
    layer = planted_map.layer
    state.choose(5)
    model.layers.remove(layer)
    assert planted_map.layer is None and not planted_map.go_to(0)
    state.choose(7)
    model.dims.ndisplay = 3
    model.layers.append(layer)  # as undo does
    assert planted_map.layer is layer
    assert np.array_equal(_colors(layer)[..., 3] > 0.0, some_codes() == 7)
    planted_map.close()
    planted_map.close()
    state.choose(5)
    assert np.array_equal(_colors(layer)[..., 3] > 0.0, some_codes() == 7)  # follows no longer


def test_what_napari_can_show_alone_stays_as_it_is(planted_map: Any, state: Any) -> None:
    """The box "show selected" of napari goes on to count, whatever is chosen."""
    layer = planted_map.layer
    layer.selected_label, layer.show_selected_label = 6, True
    state.choose(7)
    assert np.array_equal(_colors(layer)[..., 3] > 0.0, some_codes() == 5)
