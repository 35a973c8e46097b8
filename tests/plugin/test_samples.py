"""Sample data through napari: one image layer each, with units, limits and provenance."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from npe2 import PluginManager

import napari_vqldm as nv
from napari_vqldm.files import read_volume
from napari_vqldm.files.samples import sample_path
from napari_vqldm.plugin import samples
from napari_vqldm.plugin.layers import add_volume, snapshot
from napari_vqldm.plugin.layers.data import layer_data
from napari_vqldm.plugin.settings import PLUGIN
from napari_vqldm.volume import Volume

if TYPE_CHECKING:
    import napari

KEYS = ("sparse", "standard", "dense", "spindle", "real", "generated")
VERBS = {"real": "read", "generated": "generate"}


def test_all_are_in_the_manifest() -> None:
    PluginManager.instance().discover()
    found = dict(PluginManager.instance().iter_sample_data())
    assert tuple(entry.key for entry in found[PLUGIN]) == KEYS


@pytest.mark.parametrize("key", KEYS)
def test_sample_is_one_complete_layer(viewer: napari.Viewer, key: str) -> None:
    (layer,) = viewer.open_sample(PLUGIN, key)
    check_layer(layer, VERBS.get(key, "simulate"))


def test_the_generated_sample_opens_without_torch() -> None:
    """It is read from a file: the window does not wait for a model."""
    code = (
        "import sys\nfrom napari_vqldm.plugin import samples\n"
        "((data, attributes, kind),) = samples.generated()\n"
        "record = attributes['metadata']['napari_vqldm']\n"
        "print(data.shape, record['verb'], record['request']['seed'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "(32, 88, 88) generate 1 False", done.stderr


@pytest.mark.slow
def test_the_generated_sample_is_what_its_record_gives(viewer: napari.Viewer) -> None:
    (layer,) = viewer.open_sample(PLUGIN, "generated")
    result = nv.reproduce(snapshot(layer).read())
    # Another processor or build rounds differently, and then that is what the report has to say.
    assert not result.is_changed and (result.is_equal or result.differences), result.verdict
    assert result.max_abs_difference is not None
    assert result.max_abs_difference <= 0.05 * float(np.ptp(layer.data)), result.verdict


def check_layer(layer: Any, verb: str) -> None:
    assert layer.data.ndim == 3 and layer.data.dtype == np.float32
    assert layer.data.std() > 0
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert tuple(layer.axis_labels) == ("z", "y", "x")
    low, high = layer.contrast_limits
    assert layer.data.min() <= low < high <= layer.data.max()
    assert all(0 < size < 2 for size in layer.scale)
    assert layer.metadata["napari_vqldm"]["verb"] == verb


def test_samples_are_the_same_each_time() -> None:
    (first,), (second,) = samples.standard(), samples.standard()
    assert np.array_equal(first[0], second[0])


def test_densities_are_in_order() -> None:
    drawn = [sample()[0][1]["metadata"]["napari_vqldm"] for sample in (samples.sparse, samples.standard, samples.dense)]
    densities = [record["request"]["parameters"]["length_density_um_per_um3"] for record in drawn]
    photons = [record["request"]["parameters"]["photons"] for record in drawn]
    assert densities == sorted(densities) and densities[2] > 4 * densities[0]
    assert photons == sorted(photons, reverse=True)


def test_real_stack_is_the_file() -> None:
    (data, attributes, kind) = samples.real()[0]
    volume = read_volume(sample_path(samples.REAL_STACK))
    assert kind == "image" and np.array_equal(data, volume.data)
    assert attributes["scale"] == volume.voxel_size_um


def test_layer_data_looks_like_a_layer_of_the_dock(viewer: napari.Viewer) -> None:
    rng = np.random.default_rng(0)
    volume = Volume(rng.normal(size=(4, 6, 5)), (0.3, 0.1, 0.2), {"software": "napari-vqldm", "verb": "test"}, "noise")
    ours = add_volume(viewer, volume)
    data, attributes, kind = layer_data(volume)
    other = viewer.add_image(data, **attributes)
    assert kind == "image"
    for name in ("scale", "translate", "contrast_limits", "rendering", "attenuation", "blending", "metadata"):
        assert np.array_equal(getattr(ours, name), getattr(other, name)), name
    assert ours.colormap.name == other.colormap.name
    assert ours.units == other.units and ours.axis_labels == other.axis_labels
