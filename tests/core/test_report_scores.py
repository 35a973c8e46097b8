"""Scores of sets: zero for equal sets, floors from draws, and wrong sets stand out on the number that should see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_vqldm.config import SimulationConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.metrics.distribution import intensity_wasserstein
from napari_vqldm.metrics.feature_net import FeatureNet
from napari_vqldm.metrics.features import FeatureExtractor
from napari_vqldm.report.profile import Profile, profile
from napari_vqldm.report.scores import distances, floors, intensity_w1, score_rows, scorecard
from napari_vqldm.report.set_numbers import measures, set_numbers
from napari_vqldm.report.standards import GENERATION, RECONSTRUCTION
from napari_vqldm.simulate import Simulator

SIZE = (0.2, 0.1, 0.1)
COUNT = 8


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    """The network with random weights: any fixed function of a volume will do here."""
    torch.manual_seed(0)
    return FeatureExtractor("random", "0" * 64, FeatureNet().eval(), torch.device("cpu"))


@pytest.fixture(scope="module")
def volumes() -> list[np.ndarray]:
    simulator = Simulator(SimulationConfig(shape=(16, 64, 64), length_density_um_per_um3=(0.2, 0.5)))
    return [v.numpy() for v in simulator.sample(11, range(2 * COUNT)).noisy[:, 0]]


@pytest.fixture(scope="module")
def measured(volumes: list[np.ndarray], extractor: FeatureExtractor) -> list[Profile]:
    return [profile(v, SIZE, extractor) for v in volumes]


def test_a_set_has_no_distance_to_itself(measured: list[Profile]) -> None:
    found = distances(measured[:COUNT], measured[:COUNT])
    for name in ("frechet", "spectrum_lateral_db", "spectrum_axial_db", "intensity_w1"):
        assert found[name] == pytest.approx(0.0, abs=1e-6)
    assert found["kid"] < 0 and found["coverage"] == found["precision"] == 1.0
    assert found["vendi_ratio"] == pytest.approx(1.0)


def test_intensity_distance_is_that_of_the_exact_function(measured: list[Profile], volumes: list[np.ndarray]) -> None:
    exact = intensity_wasserstein(volumes[:COUNT], volumes[COUNT:])
    assert intensity_w1(measured[:COUNT], measured[COUNT:]) == pytest.approx(exact, rel=0.02)


@pytest.mark.slow
def test_wrong_sets_stand_out_where_they_should(
    measured: list[Profile], volumes: list[np.ndarray], extractor: FeatureExtractor
) -> None:
    reference, second = measured[:COUNT], measured[COUNT:]

    def profiles(changed: Sequence[np.ndarray]) -> list[Profile]:
        return [profile(v.astype(np.float32), SIZE, extractor) for v in changed]

    rows = {
        "reference": reference,
        "second": second,
        "blurred": profiles([ndimage.gaussian_filter(v, (0.7, 1.0, 1.0)) for v in volumes[:COUNT]]),
        "brighter": profiles([1.5 * v for v in volumes[:COUNT]]),
        "an eighth, repeated": [reference[0]] * COUNT,
        "blank": profiles([np.zeros_like(v) for v in volumes[:COUNT]]),
    }
    found = score_rows(rows, "second")
    cards = {name: row["scorecard"] for name, row in found["rows"].items()}
    verdicts = {name: row["verdicts"] for name, row in found["rows"].items()}
    assert found["floors"]["mean"]["intensity_w1"] > 0
    for name in ("spectrum_lateral_db_sds", "intensity_w1_sds", "length_density_sds", "frechet_sds"):
        assert abs(cards["second"][name]) < 4  # two halves of one pool are one of its splits
    assert cards["blurred"]["spectrum_lateral_db_sds"] > 5
    assert cards["brighter"]["intensity_w1_sds"] > cards["second"]["intensity_w1_sds"] + 2
    assert cards["an eighth, repeated"]["vendi_ratio_sds"] > 5
    assert verdicts["an eighth, repeated"]["vendi_ratio_sds"] in ("between", "poor")
    assert cards["blank"]["spectrum_lateral_db_sds"] == cards["blank"]["length_density_sds"] == float("inf")
    assert verdicts["blank"]["frechet_sds"] == "poor"
    assert found["rows"]["blank"]["relative_to_reference"]["length_density"] == -1.0
    for row in found["rows"].values():
        for name, ends in row["intervals"].items():
            assert ends["low"] is None or ends["low"] <= row["distances"][name] <= ends["high"], name
        for name, ends in row["scorecard_intervals"].items():
            assert ends["low"] is None or ends["low"] <= row["scorecard"][name] <= ends["high"], name
    assert found["rows"]["blank"]["intervals"]["spectrum_lateral_db"] == {"low": None, "high": None}  # infinite
    assert found["rows"]["blurred"]["scorecard_intervals"]["spectrum_lateral_db_sds"]["low"] > 2


def test_a_set_nearer_than_any_draw_is_no_good_set() -> None:
    assert GENERATION["frechet_sds"].judge(-6.0) == "too near"
    assert GENERATION["frechet_sds"].judge(-1.0) == "excellent"
    assert RECONSTRUCTION["noise_gap_db"].judge(-6.0) == "excellent"  # no standard deviations


def test_numbers_of_a_set_come_with_intervals_around_them(measured: list[Profile]) -> None:
    numbers = set_numbers(measured)
    for name in ("length_density_um_per_um3", "median_length_um", "mean_curvature_per_um"):
        found = numbers[name]
        assert 0 < found["low"] <= found["value"] <= found["high"]


def test_floors_need_two_sets(measured: list[Profile]) -> None:
    with pytest.raises(ShapeError, match="expected at least 18 volumes"):
        floors(measured, 9)


def test_a_number_without_a_floor_is_judged_unknown(measured: list[Profile]) -> None:
    """Eight volumes are too few for a distance of morphologies: nothing is said, rather than that it is poor."""
    floor = floors(measured, COUNT)
    assert np.isnan(floor.sd["morphology_frechet"])
    own = measures(measured)
    card = scorecard(distances(measured[:COUNT], measured[COUNT:]), own, own, floor)
    assert card["morphology_frechet_sds"] is None and card["curvature_sds"] == 0.0
    assert GENERATION["morphology_frechet_sds"].judge(None) == "unknown"


def test_a_frechet_distance_within_a_tenth_of_its_floor_is_no_difference(measured: list[Profile]) -> None:
    """Splits of one pool may hardly differ, and draws do: on 16 volumes a card without this called half of them odd."""
    floor = floors(measured, COUNT)
    mean = floor.mean["frechet"]
    alike = replace(floor, sd=floor.sd | {"frechet": 1e-6 * mean})
    own = measures(measured)
    scores = distances(measured[:COUNT], measured[COUNT:])
    card = scorecard(scores | {"frechet": 1.1 * mean}, own, own, alike)
    assert card["frechet_sds"] == pytest.approx(1.0)
    spread = replace(floor, sd=floor.sd | {"frechet": 0.3 * mean})
    assert scorecard(scores | {"frechet": 1.3 * mean}, own, own, spread)["frechet_sds"] == pytest.approx(1.0)


@pytest.mark.parametrize("standards", [GENERATION, RECONSTRUCTION])
def test_every_standard_is_ordered(standards: dict) -> None:
    for standard in standards.values():
        step = 1e-6 if standard.lower_is_better else -1e-6
        assert [
            standard.judge(standard.excellent),
            standard.judge(standard.excellent + step),
            standard.judge(standard.acceptable + step),
            standard.judge(standard.poor + step),
            standard.judge(float("nan")),
        ] == ["excellent", "acceptable", "between", "poor", "unknown"]
