"""Filaments stay between membrane and nucleus, glide along them without kinks, and fill the window as promised."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from napari_vqldm.config import ORGANISATIONS, CellConfig, SimulationConfig, to_json, validate
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import Simulator, tier
from napari_vqldm.simulate.cell import (
    CLEARANCE_UM,
    GLIDE_RADIUS_UM,
    LEAST_COVER,
    SHARPEST_TURN,
    Cell,
    Ellipsoid,
    draw_cell,
)
from napari_vqldm.simulate.filaments import GROWTH_STEP_UM, directions, grow

STRAIGHT_UM = 1e12  # persistence length of a chain that only walls bend
WINDOW = np.array([6.4, 12.8, 12.8])
EVERYTHING = {
    "shape": (16, 48, 48),
    "cell": {"share": 1.0},
    "bundles": {"share": (0.2, 0.3)},
    "buckles": {"share": (0.05, 0.05)},
    "labelling": {"fluorophores_per_um": (60, 400), "intensity_cv": (0.2, 0.5), "gap_share": (0.05, 0.1)},
}


def arc_length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def turns(line: np.ndarray) -> np.ndarray:
    """Angles between successive segments, rad."""
    tangent = np.diff(line, axis=0)
    tangent = tangent / np.linalg.norm(tangent, axis=1, keepdims=True)
    return 2.0 * np.arcsin(0.5 * np.linalg.norm(np.diff(tangent, axis=0), axis=1).clip(0, 2))


def inside(points: np.ndarray, ellipsoid: Ellipsoid, half_axes: np.ndarray) -> np.ndarray:
    """The equation of an ellipsoid whose axes are those of the coordinates: below 1 inside."""
    return (((points - ellipsoid.centre) / half_axes) ** 2).sum(1)


def cell(half_axes: tuple[float, float, float], nucleus: tuple[float, float, float] | None = None) -> Cell:
    heart = None if nucleus is None else Ellipsoid.upright((0.2, 0.5, -0.5), nucleus)
    return Cell(Ellipsoid.upright((0.0, 0.0, 0.0), half_axes), heart)


def chains(home: Cell, half_axes: tuple[float, ...], persistence: float, length: float, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    origins = rng.uniform(-1, 1, (8 * count, 3)) * half_axes
    origins = origins[home.holds(origins)][:count]
    lengths = np.full(len(origins), length)
    tangents = home.start(origins, directions(rng, len(origins)))
    return grow(origins, tangents, lengths, persistence, rng, steer=home.steer)


def test_distances_to_an_ellipsoid_are_those_to_its_surface() -> None:
    half_axes = np.array([3.0, 8.0, 6.0])
    wall = Ellipsoid.upright((1.0, 2.0, 3.0), half_axes)
    surface = directions(np.random.default_rng(0), 200_000) * half_axes + (1.0, 2.0, 3.0)
    rng = np.random.default_rng(1)
    base = surface[:60]
    points = base + rng.uniform(-0.3, 0.3, (60, 3))
    distance, normal = wall.distance(points.T)
    true = np.array([np.linalg.norm(surface - p, axis=1).min() for p in points])
    outside = inside(points, wall, half_axes) > 1.0
    np.testing.assert_allclose(np.abs(distance), true, atol=0.07)  # samples are some 0.04 apart
    assert (np.sign(distance) == np.where(outside, 1, -1)).all()
    np.testing.assert_allclose(np.linalg.norm(normal, axis=0), 1.0)
    np.testing.assert_allclose(wall.distance((points - distance[:, None] * normal.T).T)[0], 0.0, atol=0.02)


def test_a_turned_ellipsoid_and_one_seen_from_a_frame_are_the_same_body() -> None:
    wall = Ellipsoid.upright((0.0, 1.0, 2.0), (2.0, 8.0, 4.0), angle=0.6)
    tip = np.array([0.0, 1.0 + 8.0 * np.cos(0.6), 2.0 - 8.0 * np.sin(0.6)])
    assert wall.level(tip[:, None])[0] == pytest.approx(1.0)
    c, s = np.cos(1.1), np.sin(1.1)
    frame = np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    points = np.random.default_rng(0).uniform(-5, 5, (50, 3))
    np.testing.assert_allclose(wall.seen_from(frame).level(points.T), wall.level((points @ frame).T))


@pytest.mark.parametrize("half_axes", [(2.0, 14.0, 9.0), (5.0, 8.0, 8.0)])
@pytest.mark.parametrize("persistence", [5.0, 60.0])
def test_filaments_never_leave_the_cytosol(half_axes: tuple[float, float, float], persistence: float) -> None:
    nucleus = (0.6 * half_axes[0], 3.0, 4.0)
    home = cell(half_axes, nucleus)
    points = np.concatenate(home.cut(chains(home, half_axes, persistence, 25.0, 150)))
    assert home.nucleus is not None
    assert inside(points, home.membrane, np.array(half_axes)).max() < 1.0
    assert inside(points, home.nucleus, np.array(nucleus)).min() > 1.0
    # They use all of it, up to the walls.
    assert inside(points, home.membrane, np.array(half_axes) - 1.2 * CLEARANCE_UM).max() > 1.0


@pytest.mark.parametrize("half_axes, share", [((5.0, 9.0, 9.0), 1.0), ((3.0, 10.0, 8.0), 1.0), ((2.0, 14.0, 9.0), 0.9)])
def test_walls_turn_filaments_without_kinks_and_do_not_shorten_them(
    half_axes: tuple[float, float, float], share: float
) -> None:
    home = cell(half_axes, (0.5 * half_axes[0], 3.0, 3.0))
    grown = chains(home, half_axes, STRAIGHT_UM, 30.0, 200)
    kept = home.cut(grown)
    assert np.mean([len(a) == len(b) for a, b in zip(grown, kept, strict=True)]) >= share
    sharpest = np.concatenate([turns(line) for line in kept])
    # A gliding arc, and more at the rim of a flat cell.
    print(
        f"{half_axes}: sharpest turn {sharpest.max():.3f} rad per step, 99.9 % below {np.quantile(sharpest, 0.999):.3f}"
    )
    assert sharpest.max() < SHARPEST_TURN + 1e-6
    assert np.quantile(sharpest, 0.99) < 1.2 * GROWTH_STEP_UM / GLIDE_RADIUS_UM


def test_a_straight_filament_in_a_sphere_ends_on_a_great_circle() -> None:
    radius = 6.0
    home = cell((radius, radius, radius))
    rng = np.random.default_rng(3)
    origins = rng.uniform(-2, 2, (40, 3))
    for start, line in zip(
        origins,
        grow(origins, directions(rng, 40), np.full(40, 40.0), STRAIGHT_UM, rng, steer=home.steer),
        strict=True,
    ):
        away = np.linalg.norm(line, axis=1)
        late = away[200:]
        np.testing.assert_allclose(late, radius - CLEARANCE_UM, atol=0.02)
        # It stays in the plane of its start, its direction and the centre, and goes around in one sense.
        normal = np.cross(start, line[1] - start)
        assert np.abs(line @ normal / np.linalg.norm(normal)).max() < 0.02
        sense = np.cross(line[200:-1], line[201:]) @ normal
        assert (sense > 0).all()


def test_a_filament_goes_around_the_nucleus_and_straight_on() -> None:
    home = Cell(Ellipsoid.upright(np.zeros(3), (60.0, 60.0, 60.0)), Ellipsoid.upright(np.zeros(3), (2.0, 3.0, 3.0)))
    rng = np.random.default_rng(4)
    origins = np.stack([rng.uniform(-1.5, 1.5, 60), rng.uniform(-2.5, 2.5, 60), np.full(60, -8.0)], axis=1)
    ahead = np.tile([0.0, 0.0, 1.0], (60, 1))
    lines = grow(origins, ahead, np.full(60, 22.0), STRAIGHT_UM, rng, steer=home.steer)
    assert home.nucleus is not None
    for line in lines:
        assert inside(line, home.nucleus, np.array([2.0, 3.0, 3.0])).min() > 1.0
        assert np.abs(turns(line[:40])).max() < 1e-4  # straight until it is near
        assert np.abs(turns(line[-30:])).max() < 1e-4  # and when it is past
        assert line[-1, 2] > 0.0 and turns(line).max() < 1.2 * GROWTH_STEP_UM / GLIDE_RADIUS_UM


def test_the_two_halves_of_a_network_filament_join_without_kink() -> None:
    config = SimulationConfig(
        shape=(16, 48, 48),
        organisation={"free": 0.5, "aligned": 0.5},
        out_of_plane=(1.0, 1.0),
        persistence_length_um=(1e9, 1e9),
        cell=CellConfig(share=1.0, half_height_um=(4.0, 5.0), lateral_radius_um=(7.0, 8.0), nucleus_lateral=(0.3, 0.4)),
    )
    lines = [line for index in range(4) for line in Simulator(config).scene(1, index).filaments]
    sharpest = np.array([turns(line).max() for line in lines if len(line) > 3])
    assert len(sharpest) > 40
    assert sharpest.max() < 1.5 * GROWTH_STEP_UM / GLIDE_RADIUS_UM


@pytest.mark.parametrize("organisation", ORGANISATIONS)
def test_with_everything_on_the_length_density_is_exact_and_filaments_stay_in(organisation: str) -> None:
    config = validate(SimulationConfig, {**EVERYTHING, "organisation": {organisation: 1.0}})
    simulator = Simulator(config)
    for index in range(3):
        scene = simulator.scene(4, index)
        p = scene.parameters
        lines = simulator.render([scene], noisy=False).centre_lines[0]
        assert sum(map(arc_length, lines)) / scene.extent_um.prod() == pytest.approx(
            p.length_density_um_per_um3, rel=1e-9
        )
        assert scene.cell is not None and p.has_cell
        assert p.has_nucleus == (scene.cell.nucleus is not None) == (organisation != "spindle")
        points = np.concatenate(scene.filaments).T
        assert scene.cell.membrane.level(points).max() < 1.0
        if scene.cell.nucleus is not None:
            assert scene.cell.nucleus.level(points).min() > 1.0


def test_volumes_with_everything_on_are_the_same_bits_in_every_batch() -> None:
    config = validate(SimulationConfig, EVERYTHING)
    together = Simulator(config).sample(5, [3, 0])
    alone = Simulator(config).sample(5, [0])
    assert torch.equal(together.clean[1], alone.clean[0])
    assert together.parameters[1] == alone.parameters[0]


def digest(lines: list[np.ndarray], brightness: np.ndarray) -> str:
    """Content up to 1e-5 um: mathematical functions of other processors differ in the last bits."""
    sha = hashlib.sha256()
    for values in (*lines, brightness):
        sha.update(np.ascontiguousarray(np.round(values, 5) + 0.0).tobytes())
    return sha.hexdigest()[:16]


def test_scenes_without_these_options_are_those_of_before_they_existed() -> None:
    small = SimulationConfig(shape=(8, 32, 32))
    expected = {
        "aster": "babaa45a9a69fa7b",
        "two_asters": "c2d777c1480ec0b6",
        "free": "902c1b5e1d10ae7f",
        "aligned": "d851a76b806eaa9f",
        "spindle": "df56533ff7f8169c",
    }
    for organisation, wanted in expected.items():
        scene = Simulator(small.model_copy(update={"organisation": {organisation: 1.0}})).scene(5, 0)
        assert digest(scene.filaments, scene.brightness) == wanted
        assert scene.cell is None and scene.labelling is None
    for index, wanted in enumerate(["b7a065b8fa3578fd", "80d547f0d2f86d3f", "8d5b6d30f2a2f46f"]):
        scene = Simulator(tier()).scene(5, index)
        assert digest(scene.filaments, scene.brightness) == wanted
    assert not {"cell", "bundles", "buckles", "labelling"} & set(small.model_dump())
    assert validate(SimulationConfig, small.model_dump(mode="json")) == small


def test_configurations_with_everything_on_survive_json() -> None:
    config = validate(SimulationConfig, EVERYTHING)
    assert SimulationConfig.model_validate_json(to_json(config)) == config


def test_cells_lie_anywhere_but_fill_their_part_of_the_window() -> None:
    config = CellConfig(share=1.0, centre_spread_um=8.0)
    cells = [draw_cell(config, "free", WINDOW, np.random.default_rng(seed)) for seed in range(150)]
    assert all(c is not None and c.cover(WINDOW) >= LEAST_COVER for c in cells)
    centres = np.array([c.membrane.centre for c in cells if c is not None])
    assert ((centres[:, 1:] < 0) | (centres[:, 1:] > WINDOW[1:])).any()  # some beyond the window
    grid = directions(np.random.default_rng(0), 400)
    for c in cells:
        assert c is not None and c.nucleus is not None
        surface = c.nucleus.centre[:, None] + np.linalg.solve(c.nucleus.shape, grid.T)
        assert c.membrane.level(surface).max() <= 0.9 + 1e-9
    none = [
        draw_cell(CellConfig(share=0.3), "free", WINDOW, np.random.default_rng(seed)) is None for seed in range(300)
    ]
    assert np.mean(none) == pytest.approx(0.7, abs=0.08)


def test_points_outside_the_cytosol_are_moved_into_it() -> None:
    home = cell((3.0, 9.0, 9.0), (1.5, 3.0, 3.0))
    points = np.random.default_rng(5).uniform(-12, 12, (500, 3))
    points[0] = (0.2, 0.5, -0.5)  # centre of the nucleus
    moved = home.nearest(points)
    assert home.holds(moved).mean() > 0.99
    settled = home.holds(points) & (home.membrane.level(points.T) < 0.85) & (home.nucleus.level(points.T) > 1.3)  # type: ignore[union-attr]
    np.testing.assert_array_equal(moved[settled], points[settled])


def test_windows_that_cells_cannot_fill_are_one_clear_error() -> None:
    tiny = {"cell": {"share": 1.0, "half_height_um": (1.0, 1.0), "lateral_radius_um": (2.0, 2.0)}}
    with pytest.raises(ConfigError, match=r"cell: none of 200 cells filled 30%.*larger cells"):
        Simulator(validate(SimulationConfig, tiny)).scene(0, 0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"half_height_um": (0.2, 3.0)}, "half_height_um: expected 1.0 <= low"),
        ({"lateral_radius_um": (9.0, 8.0)}, "lateral_radius_um"),
        ({"nucleus_height": (0.5, 0.95)}, "0.8"),
        ({"share": 1.5}, "less than or equal to 1"),
    ],
)
def test_impossible_cells_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(SimulationConfig, {"cell": options})
