"""Numbers and plots of a comparison: what they say, with and without noise, with and without pyqtgraph."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_vqldm.plugin.compare.plots import ComparisonPlots
from napari_vqldm.plugin.compare.words import (
    ceiling_text,
    cutoff_of,
    numbers_text,
    plane_text,
    series_text,
    spectrum_text,
)

SHAPE = (6, 24, 20)


@pytest.fixture(scope="module")
def comparison() -> Any:
    """Of a noisy simulated stack and its noise-free truth."""
    from napari_vqldm.compare import compare
    from napari_vqldm.config import SimulationConfig
    from napari_vqldm.simulation import simulate

    sample = simulate(1, seed=1, config=SimulationConfig(shape=(12, 48, 48)))[0]
    return compare(sample.noisy, sample.clean)


def test_numbers_say_what_was_measured(comparison: Any) -> None:
    text = numbers_text(comparison)
    assert f"{comparison.psnr_db:.1f} dB" in text and f"{comparison.ssim:.3f}" in text
    assert "perfect noise-free result would score" in ceiling_text(comparison)
    assert f"{comparison.noise_ceiling_db:.1f} dB" in ceiling_text(comparison)
    worst = int(comparison.psnr_per_z_db.argmin())
    assert f"z = {worst} (worst)" in plane_text(comparison)
    assert series_text([comparison]) == ""
    assert "All 2 frames" in series_text([comparison, comparison])


def test_an_identical_volume_is_called_identical(comparison: Any) -> None:
    from napari_vqldm.compare import compare
    from napari_vqldm.volume import Volume

    volume = Volume(np.random.default_rng(0).random(SHAPE, np.float32), (0.2, 0.1, 0.1))
    same = compare(volume, volume)
    assert numbers_text(same) == "Identical to the input, voxel for voxel." and ceiling_text(same) == ""


def test_the_cut_off_is_that_of_the_optics(comparison: Any) -> None:
    from napari_vqldm.config_simulation import OpticsConfig

    assert cutoff_of(OpticsConfig(numerical_aperture=1.4, emission_wavelength_um=0.6)) == pytest.approx(
        4.6667, abs=1e-3
    )
    assert cutoff_of(None) is None
    assert "cut-off" in spectrum_text(comparison, 4.0) and "cut-off" not in spectrum_text(comparison, None)


def test_power_above_the_cut_off_is_called_noise_only_where_noise_was_found(comparison: Any) -> None:
    from napari_vqldm.compare import compare
    from napari_vqldm.config import SimulationConfig
    from napari_vqldm.simulation import simulate

    assert comparison.noise.is_measurable
    assert "what this input has there is noise" in spectrum_text(comparison, 4.0)
    assert "optics that the model was trained on" in spectrum_text(comparison, 4.0)
    clean = simulate(1, seed=1, config=SimulationConfig(shape=(12, 48, 48)))[0].clean
    noise_free = compare(clean, replace(clean, data=clean.data * np.float32(0.9)))
    assert not noise_free.noise.is_measurable
    text = spectrum_text(noise_free, 4.0)
    assert "81 % of the input's power is kept below" in text and "no noise was found in this input" in text
    assert "is noise" not in text and "only noise" not in text


@pytest.mark.parametrize("blur", [0.6, 1.2])
def test_shares_of_power_are_those_of_all_frequencies(comparison: Any, blur: float) -> None:
    """A blur takes more the finer: means of rings, which the spectrum holds, would tell another share."""
    from scipy.ndimage import gaussian_filter

    from napari_vqldm.compare import compare
    from napari_vqldm.volume import Volume

    cutoff, size = 3.0, (0.2, 0.1, 0.1)
    noise = np.random.default_rng(0).normal(100.0, 10.0, (12, 96, 96)).astype(np.float32)
    smooth = gaussian_filter(noise, (0.0, blur, blur), mode="wrap")
    found = compare(Volume(noise, size), Volume(smooth, size))
    assert found.noise.is_measurable
    told = [int(part) for part in re.findall(r"(\d+) % ", spectrum_text(found, cutoff))]

    windows = [np.hanning(n + 2)[1:-1] for n in noise.shape]
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(96, 0.1), np.fft.fftfreq(96, 0.1)))
    planes = [np.tensordot(windows[0], v - v.mean(), 1) * np.outer(*windows[1:]) for v in (noise, smooth)]
    power = [np.abs(np.fft.fft2(plane)) ** 2 for plane in planes]
    band = (frequency >= 0.2) & (frequency <= 5.0)
    for share, part in zip(told, (band & (frequency <= cutoff), band & (frequency > cutoff)), strict=True):
        assert share == pytest.approx(100 * power[1][part].sum() / power[0][part].sum(), abs=1.5)


def test_a_spectrum_that_ends_before_the_cut_off_says_nothing_of_what_lies_above(comparison: Any) -> None:
    assert comparison.spectrum is not None and comparison.spectrum.frequency_per_um.max() < 20.0
    text = spectrum_text(comparison, 20.0)
    assert "ends before the cut-off" in text and "noise" not in text and "all above" not in text


def test_a_result_that_was_not_compared_says_why_and_nothing_else(plots: ComparisonPlots) -> None:
    from napari_vqldm.compare import not_compared

    nothing = not_compared("too little memory was free")
    assert numbers_text(nothing) == "Not compared with the input: too little memory was free."
    assert ceiling_text(nothing) == plane_text(nothing) == spectrum_text(nothing, 4.0) == ""
    assert series_text([nothing, nothing]) == ""
    plots.show_comparison(nothing, 4.0)
    assert len(plots.curve("per_z")[0]) == 0 and plots.spectrum_label.text() == ""


@pytest.fixture
def plots(qtbot: Any) -> Any:
    """Held until Qt has closed it: a plot must not be collected while it is painted."""
    widget = ComparisonPlots()
    qtbot.addWidget(widget)
    return widget


def test_plots_show_the_numbers_and_a_click_names_a_plane(plots: ComparisonPlots, comparison: Any) -> None:
    from qtpy.QtCore import QPointF

    assert plots.plane_plot is None
    plots.resize(320, 400)
    plots.show_comparison(comparison, 4.0)
    plots.show()
    per_z = plots.curve("per_z")
    assert np.allclose(per_z[1], comparison.psnr_per_z_db)
    frequency, power = plots.curve("output")
    assert np.allclose(frequency, comparison.reconstruction_spectrum.frequency_per_um)
    assert power.max() <= plots.curve("input")[1].max() + 1.0
    chosen: list[int] = []
    plots.plane_chosen.connect(chosen.append)

    where = plots.plane_plot.getViewBox().mapViewToScene(QPointF(5.2, float(per_z[1][5])))
    plots._on_click(SimpleNamespace(scenePos=lambda: where))
    assert chosen == [5]
    plots.show_comparison(None)
    assert len(plots.curve("per_z")[0]) == 0 and plots.plane_label.text() == ""


def test_without_pyqtgraph_the_plots_are_words(
    plots: ComparisonPlots, comparison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyqtgraph", None)
    plots.show_comparison(comparison, 4.0)
    assert plots.plane_plot is None
    assert "PSNR per plane" in plots.plane_label.text() and "Power spectrum" in plots.spectrum_label.text()
