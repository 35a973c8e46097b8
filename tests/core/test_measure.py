"""Measurements of volumes whose filaments are known."""

from __future__ import annotations

import csv
import math
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import FileError
from napari_vqldm.files import read_centre_lines, write_centre_lines
from napari_vqldm.intensity import IntensityScale
from napari_vqldm.measure import Measurement, measure, measure_steps, write_filaments, write_volumes
from napari_vqldm.measure.quantities import FILAMENT_QUANTITIES, VOLUME_QUANTITIES
from napari_vqldm.measure.result import filament_names
from napari_vqldm.measure.tables import remarks
from napari_vqldm.metrics.filaments import TRACE_STEPS, trace_filaments
from napari_vqldm.metrics.morphology import morphology
from napari_vqldm.metrics.width import filament_width
from napari_vqldm.simulation import simulate
from napari_vqldm.volume import Volume

VOXEL = (0.2, 0.1, 0.1)
UNIT = IntensityScale(0.0, 1.0)


def drawn(*lines: object, shape: tuple[int, int, int] = (24, 96, 96)) -> np.ndarray:
    """Image of polylines (um, z y x) from the corner; an isolated one peaks near 1."""
    fine = np.array(VOXEL) / 2
    grid = np.zeros(np.array(shape) * 2)
    for line in (np.asarray(line, float) for line in lines):
        arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
        along = np.arange(0.0, arc[-1], 0.01)
        points = np.stack([np.interp(along, arc, line[:, axis]) for axis in range(3)], 1)
        np.add.at(grid, tuple(np.floor(points / fine).astype(int).T), 0.01)
    blurred = ndimage.gaussian_filter(grid, np.array([0.2, 0.09, 0.09]) / fine)
    z, y, x = shape
    pooled = blurred.reshape(z, 2, y, 2, x, 2).mean((1, 3, 5))
    return (pooled / np.prod(fine) * 2 * np.pi * 0.2 * 0.09).astype(np.float32)


def measured(*lines: object) -> Measurement:
    return measure(Volume(drawn(*lines), VOXEL, {}, "drawn"), intensity=UNIT)


STRAIGHT = [(2.4, 2.0, 1.5), (2.4, 5.5, 7.5)]


def test_a_straight_filament_has_its_length_direction_and_brightness() -> None:
    found = measured(STRAIGHT)
    (filament,) = found.filaments
    true = float(np.linalg.norm(np.subtract(*STRAIGHT)))
    assert filament.length_um == pytest.approx(true, abs=0.3)
    assert filament.end_to_end_um == pytest.approx(true, abs=0.3)
    assert filament.tortuosity == pytest.approx(1.0, abs=0.02)
    assert filament.azimuth_degrees == pytest.approx(math.degrees(math.atan2(3.5, 6.0)), abs=2.0)
    assert filament.tilt_degrees < 3.0
    assert filament.mean_curvature_per_um < 0.1
    assert 0.75 < filament.mean_intensity < 1.05  # between two planes: the brightest voxels have 0.88
    assert not filament.touches_border
    assert found.number("length_density_um_per_um3") == pytest.approx(filament.length_um / found.volume_um3)
    assert found.number("director_degrees") == pytest.approx(filament.azimuth_degrees, abs=1.0)


@pytest.mark.parametrize(
    "line, azimuth, tilt",
    [
        ([(2.4, 4.8, 1.5), (2.4, 4.8, 8.0)], 0.0, 0.0),  # along x
        ([(2.4, 1.5, 4.8), (2.4, 8.0, 4.8)], 90.0, 0.0),  # along y
        ([(2.4, 6.0, 2.0), (2.4, 2.0, 6.0)], 135.0, 0.0),  # from +x towards -y
        ([(1.0, 4.8, 3.0), (3.8, 4.8, 5.8)], 0.0, 45.0),
    ],
)
def test_directions_are_those_that_were_drawn(line: object, azimuth: float, tilt: float) -> None:
    (filament,) = measured(line).filaments
    off = (filament.azimuth_degrees - azimuth + 90.0) % 180.0 - 90.0
    assert abs(off) < 3.0
    assert filament.tilt_degrees == pytest.approx(tilt, abs=5.0)


def test_a_filament_along_z_has_no_direction_in_the_plane() -> None:
    (filament,) = measured([(1.0, 4.8, 4.8), (3.8, 4.8, 4.8)]).filaments
    assert filament.tilt_degrees > 85.0
    assert math.isnan(filament.mean_curvature_per_um) or filament.length_um > 2.0


def test_an_arc_has_its_curvature_and_tortuosity() -> None:
    angle = np.linspace(0.0, np.pi, 200)
    arc = np.stack([np.full(200, 2.4), 3.0 + 3.0 * np.sin(angle), 4.8 + 3.0 * np.cos(angle)], 1)
    (filament,) = measured(arc).filaments
    assert filament.mean_curvature_per_um == pytest.approx(1 / 3, rel=0.1)
    assert filament.tortuosity == pytest.approx(np.pi / 2, rel=0.05)


def test_a_filament_that_leaves_the_volume_says_so() -> None:
    found = measured([(2.4, 4.8, -0.0), (2.4, 4.8, 6.0)], [(2.4, 7.0, 2.0), (2.4, 7.0, 7.0)])
    by_place = sorted(found.filaments, key=lambda filament: found.lines[filament.number - 1][0, 1])
    assert [filament.touches_border for filament in by_place] == [True, False]
    assert any("1 of 2 filaments end at a face" in note for note in found.notes)


def test_lines_lie_on_the_image_in_voxels_and_in_the_world() -> None:
    """The brightest voxels of the drawing are where the lines are, in each of the three ways to say it."""
    data = drawn(STRAIGHT)
    found = measure(Volume(data, VOXEL), intensity=UNIT)
    (voxels,), (world,), (corner,) = found.lines_in_voxels(), found.lines_in_world(), found.lines
    assert np.allclose(world, voxels * VOXEL) and np.allclose(corner, (voxels + 0.5) * VOXEL)
    on_line = ndimage.map_coordinates(data, voxels[3:-3].T, order=1)
    beside = ndimage.map_coordinates(data, voxels[3:-3].T + np.array([[0.0], [2.0], [-2.0]]), order=1)
    assert on_line.mean() > 0.8 > 0.6 > beside.mean()
    middle = 0.5 * (np.asarray(STRAIGHT[0]) + STRAIGHT[1])
    assert np.linalg.norm(corner - middle, axis=1).min() < 0.15


@pytest.fixture(scope="module")
def simulated() -> Volume:
    noisy = simulate(1, seed=5)[0].noisy
    assert noisy is not None
    return noisy


def test_the_numbers_are_those_of_the_metrics(simulated: Volume) -> None:
    found = measure(simulated, intensity=UNIT)
    trace = trace_filaments(simulated.data, simulated.voxel_size_um)
    assert len(found.filaments) == len(trace.filaments) > 5
    assert all(np.array_equal(a, b) for a, b in zip(found.lines, trace.filaments, strict=True))
    assert np.allclose(found.column("length_um"), trace.lengths_um)
    form = morphology(trace.filaments, simulated.extent_um)
    width = filament_width(simulated.data, trace.filaments, simulated.voxel_size_um)
    expected = {**vars(form), "bending_per_um": form.bending_per_um}
    expected |= {"length_weighted_median_um": trace.length_weighted_median_um}
    expected |= {"width_lateral_um": width.lateral_um, "width_axial_um": width.axial_um}
    numbers = found.numbers()
    assert set(numbers) == {quantity.name for quantity in VOLUME_QUANTITIES}
    for name, value in numbers.items():
        assert value == pytest.approx(expected[name], nan_ok=True), name


@pytest.mark.slow
def test_units_of_the_intensity_do_not_matter(simulated: Volume) -> None:
    """Another gain and offset give the same filaments, estimated or said."""
    counts = simulated.with_data(simulated.data * 37.0 + 500.0)
    plain, estimated = measure(simulated), measure(counts)
    assert plain.is_intensity_estimated and estimated.intensity is not None
    lengths = [found.number("length_density_um_per_um3") for found in (plain, estimated)]
    assert lengths[1] == pytest.approx(lengths[0], rel=0.02)
    said = measure(counts, intensity=IntensityScale(500.0, 37.0))
    assert not said.is_intensity_estimated
    direct = measure(simulated, intensity=UNIT)
    assert said.number("length_um") == pytest.approx(direct.number("length_um"), rel=0.01)
    assert np.mean(said.column("mean_intensity")) == pytest.approx(np.mean(direct.column("mean_intensity")), rel=0.01)


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_an_empty_volume_has_no_filaments_and_says_why(value: float) -> None:
    found = measure(Volume(np.full((8, 16, 16), value), VOXEL, {}, "empty"))
    assert found.filaments == () and found.lines == () and found.intensity is None
    numbers = found.numbers()
    assert numbers["num_filaments"] == numbers["length_density_um_per_um3"] == numbers["ends_per_um3"] == 0.0
    assert math.isnan(numbers["median_length_um"]) and math.isnan(numbers["width_lateral_um"])
    assert found.notes == (f"Every voxel equals {value:g}: there is nothing to trace.",)
    assert found.to_dict()["median_length_um"] is None
    assert found.missing()["width_lateral_um"]


def test_a_volume_of_noise_is_called_noise(simulated: Volume) -> None:
    noise = np.random.default_rng(0).normal(100.0, 5.0, (16, 64, 64))
    found = measure(Volume(noise, VOXEL))
    assert found.is_maybe_noise and any("standard deviations of the noise" in note for note in found.notes)
    assert not measure(simulated).is_maybe_noise


def test_steps_end_with_the_result_and_can_be_left() -> None:
    volume = Volume(drawn(STRAIGHT), VOXEL)
    steps = list(measure_steps(volume, intensity=UNIT))
    assert [step.index for step in steps] == list(range(len(steps)))
    assert {step.total for step in steps} == {len(steps)}
    assert [step.result is not None for step in steps] == [False] * (len(steps) - 1) + [True]
    assert set(TRACE_STEPS) < {step.doing for step in steps}
    begun = measure_steps(volume)
    next(begun)
    begun.close()
    assert list(begun) == []


def test_many_filaments_take_more_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    # By its module: the package shows the verb of the same name.
    monkeypatch.setattr(import_module("napari_vqldm.measure.verb"), "_FILAMENTS_A_STEP", 1)
    steps = list(measure_steps(Volume(drawn(STRAIGHT), VOXEL), intensity=UNIT))
    assert steps[-1].index + 1 == steps[-1].total == len(steps)


# --- files ------------------------------------------------------------------------------------------------------------


def test_tables_hold_what_was_measured(tmp_path: Path) -> None:
    empty = measure(Volume(np.zeros((8, 16, 16)), VOXEL, {}, "empty"))
    found = measured(STRAIGHT, [(1.2, 7.0, 2.0), (1.2, 8.0, 7.0)])
    path = write_filaments(tmp_path / "filaments.csv", [empty, found])
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["volume"] for row in rows] == ["drawn", "drawn"]
    assert [int(row["filament"]) for row in rows] == [1, 2]
    for quantity in FILAMENT_QUANTITIES:
        assert [float(row[quantity.name]) for row in rows] == found.column(quantity.name).tolist()
    assert {row["touches_border"] for row in rows} == {"0"}
    assert set(rows[0]) == {"volume", "filament", *filament_names()[1:]}
    with write_volumes(tmp_path / "volumes.csv", [empty, found]).open(newline="") as stream:
        volumes = list(csv.DictReader(stream))
    assert volumes[0]["median_length_um"] == "" and float(volumes[0]["length_um"]) == 0.0
    assert float(volumes[1]["length_um"]) == found.number("length_um")
    assert "nothing to trace" in volumes[0]["notes"]
    with pytest.raises(FileError, match="exists"):
        write_filaments(path, [found])


def test_centre_lines_survive_swc(tmp_path: Path) -> None:
    found = measured(STRAIGHT)
    back = read_centre_lines(write_centre_lines(tmp_path / "lines.swc", found.lines))
    assert len(back.lines) == 1 and np.allclose(back.lines[0], found.lines[0], atol=1e-6)


def test_every_number_says_what_the_tracer_does_to_it() -> None:
    by_name = {quantity.name: quantity for quantity in VOLUME_QUANTITIES}
    density = by_name["length_density_um_per_um3"]
    assert density.bias == pytest.approx(-0.036, abs=0.001)
    assert "traces read 4 % low" in density.remark and "spindle 31 % low" in density.remark
    assert "not corrected" in by_name["width_lateral_um"].remark
    text = "\n".join(remarks([]))
    assert all(quantity.name in text for quantity in (*VOLUME_QUANTITIES, *FILAMENT_QUANTITIES))
    assert "Tracer version 1" in text


def test_a_denser_volume_is_measured_denser() -> None:
    """Twice the true length density is twice the measured one, within what the tracer is off."""
    config = {"shape": (24, 96, 96), "organisation": {"free": 1.0}}
    density = []
    for value in (0.15, 0.3):
        chosen = SimulationConfig.model_validate({**config, "length_density_um_per_um3": (value, value)})
        made = simulate(1, seed=3, config=chosen)[0]
        assert made.noisy is not None
        true = sum(float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) for line in made.centre_lines)
        found = measure(made.noisy)
        assert found.number("length_um") == pytest.approx(true, rel=0.15)
        density.append(found.number("length_density_um_per_um3"))
    assert density[1] / density[0] == pytest.approx(2.0, rel=0.3)
