"""Light along filaments: mean 1, Poisson numbers, gaps and correlation as requested, in a stream of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_vqldm.config import LabellingConfig, OpticsConfig, SimulationConfig, validate
from napari_vqldm.errors import ConfigError
from napari_vqldm.simulate import Simulator
from napari_vqldm.simulate.labelling import Labelling, draw_labelling, labelled_part
from napari_vqldm.simulate.render import Renderer, line_samples

SMALL = SimulationConfig(shape=(16, 48, 48), organisation={"free": 1.0}, length_density_um_per_um3=(1.0, 1.5))
EVERYTHING = {"fluorophores_per_um": (60, 400), "intensity_cv": (0.2, 0.5), "gap_share": (0.0, 0.1)}
PLAIN = {
    "fluorophores_per_um": None,
    "intensity_cv": 0.0,
    "correlation_um": 0.5,
    "gap_share": 0.0,
    "gap_um": (0.1, 0.5),
}


def lines(count: int, length: float, step: float = 0.1) -> list[np.ndarray]:
    """Straight filaments of one length."""
    x = np.arange(round(length / step) + 1) * step
    return [np.stack([np.zeros_like(x), np.full_like(x, i), x], axis=1) for i in range(count)]


def brightness(count: int = 200, length: float = 20.0, **changes: object) -> np.ndarray:
    """Relative brightness of the segments of straight filaments, (filaments, segments)."""
    labelling = Labelling(**{**PLAIN, **changes})  # type: ignore[arg-type]
    return np.stack(labelling.brightness(lines(count, length), np.random.default_rng(0)))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fluorophores_per_um": 60.0},
        {"intensity_cv": 0.5, "correlation_um": 1.0},
        {"gap_share": 0.1},
        {"fluorophores_per_um": 60.0, "intensity_cv": 0.5, "gap_share": 0.1},
    ],
)
def test_the_mean_brightness_is_one(changes: dict[str, object]) -> None:
    values = brightness(**changes)
    assert values.min() >= 0.0
    assert values.mean() == pytest.approx(1.0, abs=0.02)
    assert (values == 1.0).all() == (not changes)


@pytest.mark.parametrize("density", [60.0, 400.0])
def test_fluorophores_are_counted_one_by_one(density: float) -> None:
    number = brightness(fluorophores_per_um=density) * density * 0.1
    np.testing.assert_allclose(number, np.rint(number), atol=1e-6)
    assert number.mean() == pytest.approx(0.1 * density, rel=0.02)
    assert number.var() == pytest.approx(0.1 * density, rel=0.04)  # Poisson: variance equals mean
    assert np.corrcoef(number[:, 1:].ravel(), number[:, :-1].ravel())[0, 1] == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("cv, correlation", [(0.2, 0.3), (0.5, 1.0)])
def test_variation_and_correlation_along_a_contour_are_the_requested_ones(cv: float, correlation: float) -> None:
    values = brightness(400, intensity_cv=cv, correlation_um=correlation)
    assert values.std() / values.mean() == pytest.approx(cv, rel=0.05)
    deviation = np.log(values) - np.log(values).mean()
    lags = np.arange(1, 6)
    found = [(deviation[:, k:] * deviation[:, :-k]).mean() / (deviation**2).mean() for k in lags]
    np.testing.assert_allclose(found, np.exp(-0.1 * lags / correlation), atol=0.03)
    # Each filament starts anew.
    assert np.corrcoef(deviation[1:, 0], deviation[:-1, -1])[0, 1] == pytest.approx(0.0, abs=0.15)
    assert deviation[:, 0].std() == pytest.approx(deviation.std(), rel=0.1)  # stationary from the first segment


def test_the_correlation_survives_counting() -> None:
    values = brightness(400, intensity_cv=0.4, correlation_um=0.6, fluorophores_per_um=100.0) - 1.0
    covariance = np.array([(values[:, k:] * values[:, : values.shape[1] - k]).mean() for k in (0, 2, 4)])
    assert covariance[0] == pytest.approx(0.4**2 + 1.0 / (100.0 * 0.1), rel=0.06)  # counting noise at distance 0 only
    logarithm = np.log1p(covariance[1:])  # of a log-normal process: proportional to the correlation of its logarithm
    assert logarithm[1] / logarithm[0] == pytest.approx(np.exp(-0.2 / 0.6), abs=0.05)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_gaps_take_their_share_and_have_their_lengths(share: float) -> None:
    fine = np.full(400_000, 0.005)  # 2 mm of filament
    part = labelled_part(fine, share, (0.1, 0.5), np.random.default_rng(1))
    assert (1.0 - part).mean() == pytest.approx(share, rel=0.1)
    dark = np.concatenate([[False], part < 0.5, [False]])
    begins, ends = np.flatnonzero(dark[1:] & ~dark[:-1]), np.flatnonzero(~dark[1:] & dark[:-1])
    lengths = (ends - begins) * 0.005
    # Two gaps that touch look like one: rare.
    assert np.quantile(lengths, 0.01) > 0.09 and np.quantile(lengths, 0.9) < 0.5
    assert np.median(lengths) == pytest.approx(0.3, abs=0.03)


def test_partly_covered_segments_are_partly_bright() -> None:
    coarse = labelled_part(np.full(20_000, 0.1), 0.1, (0.1, 0.5), np.random.default_rng(2))
    fine = labelled_part(np.full(400_000, 0.005), 0.1, (0.1, 0.5), np.random.default_rng(2))
    np.testing.assert_allclose(coarse, fine.reshape(-1, 20).mean(axis=1), atol=1e-6)


def test_empty_and_degenerate_filaments_are_labelled() -> None:
    labelling = Labelling(**{**PLAIN, "fluorophores_per_um": 100.0, "gap_share": 0.1, "intensity_cv": 0.3})  # type: ignore[arg-type]
    assert labelling.brightness([], np.random.default_rng(0)) == []
    found = labelling.brightness([np.zeros((2, 3)), lines(1, 1.0)[0]], np.random.default_rng(0))
    assert [len(values) for values in found] == [1, 10]
    assert found[0][0] == 0.0 and np.isfinite(found[1]).all()


def test_labels_leave_filaments_and_mean_light_as_they_are() -> None:
    labelled = SMALL.model_copy(update={"labelling": LabellingConfig.model_validate(EVERYTHING)})
    light = np.zeros(2)
    for index in range(6):
        plain, uneven = Simulator(SMALL).scene(3, index), Simulator(labelled).scene(3, index)
        for a, b in zip(plain.filaments, uneven.filaments, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(plain.brightness, uneven.brightness)
        p = uneven.parameters
        assert p.fluorophores_per_um is not None and 60 <= p.fluorophores_per_um <= 400
        assert 0.2 <= p.label_cv <= 0.5 and 0.0 <= p.label_gap_share <= 0.1
        before = Simulator(SMALL).render([plain], noisy=False).clean
        after = Simulator(labelled).render([uneven], noisy=False).clean
        assert not torch.equal(before, after)
        light += float(before.mean()), float(after.mean())
    assert light[1] / light[0] == pytest.approx(1.0, abs=0.03)
    assert draw_labelling(LabellingConfig(), np.random.default_rng(0)) is None


def test_one_brightness_per_filament_and_per_segment_give_the_same_bits() -> None:
    x = np.linspace(0.2, 4.0, 39)
    curves = [np.stack([1.0 + 0.1 * np.sin(x + i), 2.0 + 0.3 * np.cos(x), x], axis=1) for i in range(3)]
    scalars = [0.7, 1.0, 1.3]
    segments = [np.full(38, value) for value in scalars]
    low, high = np.zeros(3), np.full(3, 5.0)
    np.testing.assert_array_equal(line_samples(curves, scalars, low, high), line_samples(curves, segments, low, high))


def test_light_is_where_the_segments_are_bright() -> None:
    optics = OpticsConfig()
    x = np.linspace(-3.0, 9.0, 121)
    line = np.stack([np.full_like(x, 1.7), np.full_like(x, 1.65), x], axis=1)
    light = np.where(x[:-1] < 3.0, 2.0, 0.0)
    image = Renderer((16, 32, 64), optics, (9, 12, 12), torch.device("cpu")).render(
        [line], [light], (0.2, 0.1, 0.1), 1.0
    )
    profile = image[8, 16].numpy()
    np.testing.assert_allclose(profile[2:24], 2.0, rtol=0.02)
    assert profile[38:].max() < 0.02
    assert profile[29:31].mean() == pytest.approx(1.0, rel=0.05)  # half of it at the edge


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fluorophores_per_um": (0.0, 100.0)}, "0 < low"),
        ({"gap_share": (0.0, 0.9)}, "at most 0.5"),
        ({"intensity_cv": (0.5, 0.2)}, "0 <= low <= high"),
        ({"correlation_um": (0.0, 1.0)}, "0 < low"),
    ],
)
def test_impossible_labels_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(SimulationConfig, {"labelling": options})
