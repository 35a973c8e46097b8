"""Persistence lengths recovered from centre lines by the definition <cos(angle between tangents)> = exp(-s / Lp)."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vqldm.config import SimulationConfig
from napari_vqldm.simulate import Simulator
from napari_vqldm.simulate.cell import Cell, Ellipsoid
from napari_vqldm.simulate.filaments import directions, grow


def apparent_persistence(lines: list[np.ndarray], longest_um: float) -> float:
    """Slope of log <cos> against contour distance, through the origin, over lags up to a distance."""
    step = float(np.median(np.linalg.norm(np.diff(lines[0], axis=0), axis=1)))
    lags = np.arange(1, round(longest_um / step) + 1)
    total, count = np.zeros(len(lags)), np.zeros(len(lags))
    for line in lines:
        tangent = np.diff(line[:-1], axis=0)  # the last segment may be trimmed
        if len(tangent) < 2:
            continue
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        for i, lag in enumerate(lags[: len(tangent) - 1]):
            cosines = (tangent[lag:] * tangent[:-lag]).sum(1)
            total[i] += cosines.sum()
            count[i] += len(cosines)
    decay = -np.log(total / count)
    return float((lags * step) @ (lags * step) / ((lags * step) @ decay))


@pytest.mark.parametrize("wanted", [5.0, 20.0, 60.0])
def test_free_chains_have_the_requested_persistence_length(wanted: float) -> None:
    rng = np.random.default_rng(11)
    lines = grow(np.zeros((600, 3)), directions(rng, 600), np.full(600, 20.0), wanted, rng)
    assert apparent_persistence(lines, 2.0) == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize("wanted", [5.0, 20.0, 60.0])
def test_scenes_have_the_requested_persistence_length(wanted: float) -> None:
    config = SimulationConfig(organisation={"free": 1.0}, out_of_plane=(0.8, 1.0), persistence_length_um=(wanted,) * 2)
    lines = [line for i in range(4) for line in Simulator(config).scene(0, i).filaments]
    measured = apparent_persistence(lines, 0.5)
    print(f"scenes, Lp {wanted}: {measured:.2f} um from {len(lines)} filaments")
    assert measured == pytest.approx(wanted, rel=0.05)


FLAT, TALL = (2.0, 10.0, 10.0), (5.0, 9.0, 9.0)  # half-axes of cells (z, y, x), um


# What is read over 0.5 and over 3 um, in um; the docs of the simulator quote those of 20 um.
@pytest.mark.parametrize(
    "half_axes, wanted, read",
    [
        (FLAT, 5.0, (4.5, 3.7)), (FLAT, 20.0, (12.7, 8.4)), (FLAT, 60.0, (21.9, 12.3)),
        (TALL, 5.0, (4.8, 3.9)), (TALL, 20.0, (15.3, 10.0)), (TALL, 60.0, (30.4, 15.2)),
    ],
)  # fmt: skip
def test_the_bias_of_confinement_is_told(
    half_axes: tuple[float, float, float], wanted: float, read: tuple[float, float]
) -> None:
    """Walls bend filaments and hold them: what is measured inside a cell is not the persistence length of the chain."""
    membrane = Ellipsoid.upright(np.zeros(3), half_axes)
    nucleus = Ellipsoid.upright(np.zeros(3), np.array(half_axes) * (0.6, 0.4, 0.4))
    cell = Cell(membrane, nucleus)
    rng = np.random.default_rng(12)
    origins = rng.uniform(-1, 1, (3000, 3)) * half_axes
    origins = origins[cell.holds(origins)][:200]
    tangents = cell.start(origins, directions(rng, 200))
    lines = grow(origins, tangents, np.full(200, 12.0), wanted, rng, steer=cell.steer)
    lines = cell.cut(lines)
    measured = [apparent_persistence(lines, distance) for distance in (0.5, 3.0)]
    print(f"cell {half_axes}, Lp {wanted}: {measured[0]:.2f} um over 0.5 um, {measured[1]:.2f} um over 3 um")
    assert measured == pytest.approx(read, rel=0.1)
    points = np.concatenate(lines)
    assert ((points / half_axes) ** 2).sum(1).max() < 1.0
    assert ((points / (np.array(half_axes) * (0.6, 0.4, 0.4))) ** 2).sum(1).min() > 1.0


def test_the_bias_of_everything_on_is_told() -> None:
    common = {"organisation": {"free": 1.0}, "persistence_length_um": (20.0, 20.0), "shape": (24, 64, 64)}
    for name, extra, read in (  # what is read over 0.5 and over 3 um: cells bend filaments, the others hardly
        ("cells", {"cell": {"share": 1.0}}, (15.8, 11.2)),
        ("buckles", {"buckles": {"share": (0.05, 0.05)}}, (20.7, 21.3)),
        ("bundles", {"bundles": {"share": (0.3, 0.3)}}, (19.7, 20.0)),
    ):
        simulator = Simulator(SimulationConfig(**common, **extra))  # type: ignore[arg-type]
        lines = [line for i in range(2) for line in simulator.scene(0, i).filaments]
        measured = [apparent_persistence(lines, distance) for distance in (0.5, 3.0)]
        print(f"{name}, Lp 20: {measured[0]:.2f} um over 0.5 um, {measured[1]:.2f} um over 3 um")
        assert measured == pytest.approx(read, rel=0.1), name
