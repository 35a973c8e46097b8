"""Numbers of cells, what quantization costs, channels and atoms as layers: exact places, fixed contrast, records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.planted_model import planted_volume
from tests.plugin.codebook.conftest import FACTOR, SIZE, some_codes
from tests.plugin.codebook.test_codebook_map import PLACES, UM, bead

from napari_vqldm.intensity import IntensityScale

UNITS = IntensityScale(0.0, 1.0)

pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")


@pytest.fixture
def model() -> Any:
    """A viewer without a window."""
    from napari.components import ViewerModel

    return ViewerModel()


def encoded(planted_of: Any, stack: Any, **chosen: Any) -> tuple[Any, Any]:
    """What was taken of a layer, and its latent."""
    from napari_vqldm.plugin.layers import snapshot
    from napari_vqldm.reconstruct import encode

    source = snapshot(stack, **chosen)
    return source, encode(planted_of, source.read(), intensity=UNITS)


def faces_of(layer: Any) -> list[Any]:
    """First and last corner of a layer, in the world."""
    return [layer.data_to_world(np.full(3, -0.5)), layer.data_to_world(np.array(layer.data.shape) - 0.5)]


# --- cells ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [None, ((1, 7), (3, 25), (2, 19))])
@pytest.mark.parametrize("place", PLACES)
def test_the_brightest_cell_covers_the_bead(model: Any, planted_of: Any, place: str, box: Any) -> None:
    from napari_vqldm.inside.codes import channel_images
    from napari_vqldm.plugin.tabs.codebook.cell_layers import add_cells

    first = (0, 0, 0) if box is None else tuple(start for start, _ in box)
    for voxel in [(3, 9, 10), (5, 9, 10), (3, 13, 10), (4, 10, 11)]:
        stack = model.add_image(bead((8, 26, 21), voxel), name="bead", **PLACES[place])
        source, latent = encoded(planted_of, stack, box=box)
        layer = add_cells(model, channel_images(planted_of, latent)[0], source, latent=latent)
        coded = np.add(np.subtract(voxel, first), latent.padding.before)
        brightest = np.unravel_index(np.argmax(layer.data), layer.data.shape)
        assert list(brightest) == (coded // FACTOR).tolist()
        found = layer.world_to_data(stack.data_to_world(voxel))
        assert np.allclose(found, (coded + 0.5) / FACTOR - 0.5, rtol=0.0, atol=1e-6)
        assert layer.name == f"{stack.name} (channel 0)"


def test_a_cell_is_a_cell_and_its_record_has_no_script(model: Any, planted_of: Any) -> None:
    from napari_vqldm.inside.cells import CellImage
    from napari_vqldm.plugin.layers import provenance_of
    from napari_vqldm.plugin.tabs.codebook.cell_layers import add_cells

    stack = model.add_image(planted_volume(some_codes(), FACTOR).data, name="planted", scale=SIZE, units=UM)
    source, latent = encoded(planted_of, stack)
    image = CellImage(np.zeros((3, 6, 5), np.float32), (0.4, 0.4, 0.4), (0.1, 0.15, 0.15), "number")
    for look, limits in (("from zero", (0.0, 1.0)), ("about zero", (-1.0, 1.0))):
        layer = add_cells(model, image, source, look=look, latent=latent)  # type: ignore[arg-type]
        assert tuple(layer.contrast_limits) == limits  # also of a constant image
        assert (layer.interpolation2d, layer.interpolation3d) == ("nearest", "nearest")
        assert np.allclose(faces_of(layer), faces_of(stack))
        assert provenance_of(layer) is None
        record = layer.metadata["napari_vqldm"]
        assert (record["layer"], record["stack"]) == ("number", "planted")
        assert record["weights_sha256"] == latent.weights_sha256


def test_a_grid_of_one_cell_in_depth(model: Any) -> None:
    """A stack of two planes has one layer of cells: no volume, but an image all the same."""
    from napari_vqldm.inside.cells import CellImage
    from napari_vqldm.plugin.layers import snapshot
    from napari_vqldm.plugin.tabs.codebook.cell_layers import add_cells

    stack = model.add_image(bead((2, 8, 8), (0, 3, 3)), name="thin", scale=SIZE, units=UM)
    image = CellImage(np.arange(4, dtype=np.float32).reshape(1, 2, 2), (0.4, 0.4, 0.4), (0.1, 0.15, 0.15), "number")
    layer = add_cells(model, image, snapshot(stack))
    assert layer.data.shape == (1, 2, 2) and layer.ndim == 3
    assert np.allclose(faces_of(layer), faces_of(stack))


# --- channels, quantization -------------------------------------------------------------------------------------------


def test_channels_have_common_limits_about_zero(model: Any, planted_of: Any) -> None:
    from napari_vqldm.inside.codes import channel_images
    from napari_vqldm.plugin.tabs.codebook.cell_layers import add_channels

    stack = model.add_image(planted_volume(some_codes(), FACTOR).data, name="planted", scale=SIZE, units=UM)
    source, latent = encoded(planted_of, stack)
    images = channel_images(planted_of, latent)
    layers = add_channels(model, images, source, latent)
    assert [layer.name for layer in layers] == ["planted (channel 0)", "planted (channel 1)"]
    assert all(np.array_equal(layer.data, image.data) for layer, image in zip(layers, images, strict=True))
    (limits,) = {tuple(layer.contrast_limits) for layer in layers}
    assert limits[0] == -limits[1] and limits[1] == pytest.approx(np.percentile(np.abs(layers[0].data), 99.8), rel=0.2)
    assert np.allclose(layers[0].colormap.map(np.array([0.5]))[0, :3], 0.0)  # zero is black
    assert [layer.visible for layer in layers] == [True, False]  # they would cover each other
    assert add_channels(model, [], source) == []


def test_what_quantization_costs_as_layers(model: Any, planted_of: Any) -> None:
    from napari_vqldm.inside.quantization import quantization_error
    from napari_vqldm.plugin.layers import provenance_of, snapshot
    from napari_vqldm.plugin.tabs.codebook.cell_layers import add_quantization

    data = planted_volume(some_codes(), FACTOR).data.copy()
    data[0:2, 8:12, 4:8] += 0.1  # between two codes
    place = PLACES["rotated"]
    stack = model.add_image(data, name="planted", **place)
    source = snapshot(stack)
    error = quantization_error(planted_of, source.read(), intensity=UNITS)
    layers = add_quantization(model, error, source)
    names = ["snapped", "unsnapped", "snapped minus unsnapped", "quantization error"]
    assert [layer.name for layer in layers] == [f"planted ({name})" for name in names]
    assert [layer.visible for layer in layers] == [False, False, False, True]
    snapped, unsnapped, difference, heat = layers
    assert np.allclose(snapped.data - unsnapped.data, difference.data, atol=1e-6)
    assert tuple(snapped.contrast_limits) == tuple(unsnapped.contrast_limits)
    assert difference.contrast_limits[0] == -difference.contrast_limits[1]
    assert heat.contrast_limits[0] == 0.0 and heat.colormap.name == "inferno"
    assert np.unravel_index(np.argmax(heat.data), heat.data.shape) == (0, 2, 1)
    for layer in layers:
        assert np.allclose(layer.data_to_world(-0.5 * np.ones(3)), stack.data_to_world(-0.5 * np.ones(3)))
    # What can be made again has its record; of the others it says what they are.
    assert (provenance_of(snapped) or {}).get("verb") == "decode"
    assert [provenance_of(layer) for layer in layers[1:]] == [None] * 3
    assert [layer.metadata["napari_vqldm"]["layer"] for layer in layers[1:]] == names[1:]


# --- atoms ------------------------------------------------------------------------------------------------------------


def atom_of(code: int, peak: float = 0.4, shape: tuple[int, int, int] = (6, 12, 12), **changes: Any) -> Any:
    from napari_vqldm.inside.atoms import Atom
    from napari_vqldm.volume import Volume

    data = np.zeros(shape, np.float32)
    data[tuple(slice(n // 3, 2 * n // 3) for n in shape)] = peak
    size = changes.get("size", SIZE)
    return Atom(code, Volume(data, size, {}, f"atom of code {code}"), 16, 20, 0, (1, 1, 1), True)


def test_one_atom_is_shown_at_a_time(model: Any) -> None:
    from napari_vqldm.plugin.layers import provenance_of
    from napari_vqldm.plugin.tabs.codebook.atom_layer import AtomLayer

    shown = AtomLayer(model)
    assert shown.layer is None
    layer = shown.show(atom_of(3), None)
    assert layer is shown.layer and layer.name == "Atom of code 3"
    layer.contrast_limits = (-0.5, 0.5)  # as the user likes it
    assert shown.show(atom_of(5, peak=0.01), None) is None  # in the layer that is there
    assert shown.layer is layer and len(model.layers) == 1
    assert layer.name == "Atom of code 5" and layer.data.max() == np.float32(0.01)
    assert layer.metadata["napari_vqldm"]["code"] == 5 and provenance_of(layer) is None
    assert tuple(layer.contrast_limits) == (-0.5, 0.5)
    other = shown.show(atom_of(5, shape=(4, 8, 8)), None)  # of another model
    assert other is shown.layer and len(model.layers) == 2
    model.layers.remove(other)
    assert shown.layer is None
    assert shown.show(atom_of(6, shape=(4, 8, 8)), None) is shown.layer is not None


def test_a_faint_atom_is_faint(model: Any) -> None:
    from napari_vqldm.plugin.tabs.codebook.atom_layer import AtomLayer

    brightness = []
    for peak in (0.02, 0.9, -0.9):
        layer = AtomLayer(model).show(atom_of(1, peak), None)
        low, high = layer.contrast_limits
        color = layer.colormap.map(np.array([(peak - low) / (high - low)]))[0]
        brightness.append(float(color[:3].max()))
        assert (color[0] > color[2]) == (peak > 0)  # orange brightens, blue darkens
    assert brightness[0] < 0.05 and min(brightness[1:]) > 0.8


@pytest.mark.parametrize("box", [None, ((2, 7), (3, 25), (4, 20))])
@pytest.mark.parametrize("place", PLACES)
def test_an_atom_lies_beside_its_stack_at_the_same_scale(model: Any, place: str, box: Any) -> None:
    from napari_vqldm.plugin.layers import snapshot
    from napari_vqldm.plugin.tabs.codebook.atom_layer import AtomLayer

    stack = model.add_image(bead((8, 26, 21), (3, 9, 10)), name="bead", **PLACES[place])
    source = snapshot(stack, box=box)
    shown = AtomLayer(model)
    for number, ratio in enumerate((1.0, 0.8)):  # voxels of the atom may be others than those of the stack
        size = tuple(ratio * own for own in source.voxel_size_um)
        shown.show(atom_of(number, size=size), source)
        layer = shown.layer
        assert layer is not None and [str(unit) for unit in layer.units] == [str(unit) for unit in stack.units]
        corners = [stack.world_to_data(layer.data_to_world(corner)) for corner in ((-0.5,) * 3, (5.5, 11.5, 11.5))]
        middle, extent = np.mean(corners, axis=0), np.subtract(*corners[::-1])
        assert np.allclose(extent, np.multiply((6, 12, 12), ratio))
        start, stop = np.transpose(box if box is not None else [(0, n) for n in stack.data.shape])
        assert np.allclose(middle[:2], (start[:2] + stop[:2]) / 2 - 0.5)
        assert corners[0][2] > stop[2] - 0.5  # to the right of it, not on it
        assert corners[0][2] < stop[2] + 0.2 * (stop[2] - start[2])
    assert len([one for one in model.layers if one.name.startswith("Atom")]) == 1
