"""Followers stay beside their leaders; buckles have the stated radius; both keep contours and their share."""

from __future__ import annotations

import numpy as np
import pytest

from napari_vqldm.config import SimulationConfig, validate
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import Simulator
from napari_vqldm.simulate.buckles import Buckles
from napari_vqldm.simulate.bundles import Bundles, beside
from napari_vqldm.simulate.filaments import GROWTH_STEP_UM, directions, grow

AHEAD = np.array([2.0, 3.0, 6.0]) / 7.0


def arc_length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def distance_to_line(points: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Distance (n,) of points to the nearest point of any segment of a polyline."""
    start, along = line[:-1], np.diff(line, axis=0)
    away = points[:, None] - start
    part = np.clip((away * along).sum(-1) / (along * along).sum(-1), 0.0, 1.0)
    return np.linalg.norm(away - part[..., None] * along, axis=-1).min(axis=1)


def test_a_follower_of_a_straight_filament_is_a_helix() -> None:
    line = np.stack([np.zeros(101), np.zeros(101), np.linspace(0.0, 10.0, 101)], axis=1)
    (follower,) = beside([line], np.array([0.05]), np.array([0.3]), np.array([2.0]))
    np.testing.assert_allclose(np.hypot(follower[:, 0], follower[:, 1]), 0.05, rtol=1e-9)
    np.testing.assert_allclose(follower[:, 2], line[:, 2], atol=1e-12)
    assert arc_length(follower) == pytest.approx(10.0 * np.sqrt(1.0 + (0.05 * 2.0) ** 2), rel=1e-4)
    turns = np.ptp(np.unwrap(np.arctan2(follower[:, 0], follower[:, 1])))
    assert turns == pytest.approx(20.0, rel=1e-6)


def test_followers_of_bent_filaments_keep_their_distance_and_turn_slowly() -> None:
    rng = np.random.default_rng(0)
    leaders = grow(np.zeros((40, 3)), directions(rng, 40), rng.uniform(1.0, 12.0, 40), 5.0, rng)
    offset = rng.uniform(0.03, 0.06, 40)
    followers = beside(leaders, offset, rng.uniform(0, 6, 40), rng.uniform(-2, 2, 40))
    for leader, follower, wanted in zip(leaders, followers, offset, strict=True):
        assert len(follower) == len(leader)
        distance = distance_to_line(follower, leader)
        assert distance.max() <= wanted * (1 + 1e-9) and distance.min() > 0.9 * wanted
        sideways = (follower - leader) / wanted
        assert (sideways[1:] * sideways[:-1]).sum(1).min() > np.cos(0.9)
        assert arc_length(follower) == pytest.approx(arc_length(leader), rel=0.04)


def test_the_share_of_followers_is_the_requested_one() -> None:
    rng = np.random.default_rng(1)
    lines = grow(np.zeros((3000, 3)), directions(rng, 3000), np.full(3000, 0.5), 20.0, rng)
    joined = Bundles(0.3, (0.03, 0.06), np.random.default_rng(2)).join(lines)
    assert len(lines) / len(joined) == pytest.approx(0.7, abs=0.012)  # three standard deviations
    leaders = {id(line) for line in lines}
    assert [id(line) for line in joined if id(line) in leaders] == [id(line) for line in lines]


def test_bundles_in_volumes_have_offsets_within_limits_and_count_in_the_length() -> None:
    config = SimulationConfig(shape=(16, 48, 48), bundles={"share": (0.3, 0.3)}, organisation={"free": 1.0})  # type: ignore[arg-type]
    followers = filaments = 0
    for index in range(20):
        scene = Simulator(config).scene(2, index)
        length = sum(map(arc_length, scene.centre_lines()))
        wanted = scene.parameters.length_density_um_per_um3
        assert length / scene.extent_um.prod() == pytest.approx(wanted, rel=1e-9)
        assert scene.parameters.bundled_share == 0.3
        for before, line in zip(scene.filaments[:-1], scene.filaments[1:], strict=True):
            points = min(len(before), len(line)) - 2  # the last filament may be trimmed
            offset = np.linalg.norm(line[:points] - before[:points], axis=1)
            if points > 0 and offset.max() < 0.2:
                followers += 1
                assert offset.min() >= 0.03 - 1e-9 and offset.max() <= 0.06 + 1e-9
        filaments += len(scene.filaments)
    assert filaments > 200
    assert followers / filaments == pytest.approx(0.3, abs=0.1)


def straight(count: int, length: float, buckles: Buckles) -> list[np.ndarray]:
    """Chains that only buckles bend."""
    lengths = np.full(count, length)
    rng = np.random.default_rng(3)
    return grow(np.zeros((count, 3)), np.tile(AHEAD, (count, 1)), lengths, 1e14, rng, turn=buckles.turn(lengths))


def radii(line: np.ndarray) -> np.ndarray:
    """Radius of the circle through three successive points."""
    a, b, c = line[:-2], line[1:-1], line[2:]
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    sides = [np.linalg.norm(p - q, axis=1) for p, q in ((a, b), (b, c), (a, c))]
    return sides[0] * sides[1] * sides[2] / (4.0 * np.maximum(area, 1e-12))


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.5])
def test_buckles_have_the_requested_radius_and_deflection_and_go_on_as_before(radius: float) -> None:
    for line in straight(30, 14.0, Buckles(1.0, (radius, radius), (0.7, 0.7), np.random.default_rng(4))):
        assert arc_length(line) == pytest.approx(14.0, rel=1e-9)
        assert radii(line).min() == pytest.approx(radius, rel=0.06)
        tangent = np.diff(line, axis=0) / GROWTH_STEP_UM
        angle = np.arccos(np.clip(tangent @ AHEAD, -1.0, 1.0))
        assert angle.max() == pytest.approx(0.7, rel=0.1)
        assert angle[-1] < 0.01  # the filament goes on in its old direction
        # In one plane: all points are in that of the old and the most deflected tangent.
        normal = np.cross(AHEAD, tangent[int(angle.argmax())])
        assert np.abs(line @ normal / np.linalg.norm(normal)).max() < 1e-5
        assert (angle > 0.01).sum() * GROWTH_STEP_UM == pytest.approx(2 * np.pi * radius * 0.7, rel=0.12)


def test_the_share_of_buckled_filaments_is_the_requested_one() -> None:
    buckles = Buckles(0.2, (0.5, 1.5), (0.5, 0.9), np.random.default_rng(5))
    bent = [radii(line).min() for line in straight(2000, 9.0, buckles)]
    share = np.mean(np.array(bent) < 10.0)
    assert share == pytest.approx(0.2, abs=0.03)
    assert min(bent) > 0.45 and max(r for r in bent if r < 10.0) < 1.6


def test_one_half_of_a_filament_buckles_and_it_is_the_longer_one() -> None:
    lengths = np.array([1.0, 8.0, 5.0, 7.0, 2.0, 5.5])  # three filaments: first halves, then second halves
    turn = Buckles(1.0, (0.5, 0.5), (0.5, 0.5), np.random.default_rng(6)).turn(lengths, halves=2)
    rng = np.random.default_rng(7)
    lines = grow(np.zeros((6, 3)), directions(rng, 6), lengths, 1e9, rng, turn=turn)
    assert [bool(radii(line).min() < 10.0) for line in lines] == [False, True, False, True, False, True]


def test_short_filaments_get_less_of_a_buckle_and_no_share_gets_none() -> None:
    for line in straight(20, 1.0, Buckles(1.0, (1.5, 1.5), (0.9, 0.9), np.random.default_rng(8))):
        assert np.isfinite(line).all() and radii(line).min() > 1.4
    assert Buckles(0.0, (0.5, 1.5), (0.5, 0.9), np.random.default_rng(9)).turn(np.ones(5)) is None


def test_other_draws_do_not_know_of_bundles_and_buckles() -> None:
    plain = Simulator(SimulationConfig(shape=(8, 32, 32)))
    bundled = Simulator(SimulationConfig(shape=(8, 32, 32), bundles={"share": (0.0, 0.3)}))  # type: ignore[arg-type]
    for index in range(3):
        a, b = plain.draw_parameters(1, index), bundled.draw_parameters(1, index)
        changed = {name for name, value in a.to_dict().items() if b.to_dict()[name] != value}
        assert changed == {"bundled_share"}
        np.testing.assert_array_equal(plain.scene(1, index).filaments[0], bundled.scene(1, index).filaments[0])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"bundles": {"share": (0.0, 0.7)}}, "every follower has a leader"),
        ({"bundles": {"share": (0.2, 0.1)}}, "0 <= low <= high"),
        ({"bundles": {"offset_um": (0.03, 3.0)}}, "at most 0.2"),
        ({"buckles": {"share": (0.0, 2.0)}}, "at most 1"),
        ({"buckles": {"radius_um": (0.01, 1.0)}}, "0.3 or more"),
        ({"buckles": {"radii": (0.5, 1.0)}}, "unknown key"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(SimulationConfig, options)
