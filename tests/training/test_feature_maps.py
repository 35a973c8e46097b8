"""Maps of length and curvature: from known filaments to cells, along with the views, and what the loss asks of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from napari_vqldm.errors import TrainingError
from napari_vqldm.metrics.bending import mean_curvature
from napari_vqldm.metrics.feature_net import FeatureNet
from napari_vqldm.simulate import Simulator
from napari_vqldm.training.features import maps as maps_module
from napari_vqldm.training.features.bank import FeatureBank, build_feature_bank, load_feature_bank
from napari_vqldm.training.features.config import FeatureTrainConfig, wide_simulation
from napari_vqldm.training.features.losses import map_loss
from napari_vqldm.training.features.maps import CELL, STAGE, map_targets, scene_maps
from napari_vqldm.training.features.views import ViewMaker, Views, fixed

pytestmark = pytest.mark.slow  # a bank of simulated volumes and the training of networks on it

VOXEL = (0.2, 0.1, 0.1)
SHAPE = (32, 128, 128)


def scene_of(*lines: Any) -> Any:
    return SimpleNamespace(centre_lines=lambda: [np.asarray(line, float) for line in lines])


def arc(radius: float, z: float = 3.0) -> np.ndarray:
    angle = np.linspace(0.0, 1.5 * np.pi, 400)
    return np.stack([np.full_like(angle, z), 6.4 + radius * np.cos(angle), 6.4 + radius * np.sin(angle)], axis=1)


def test_every_micrometre_lies_in_its_cell() -> None:
    maps = scene_maps(scene_of([[0.4, 0.4, 0.0], [0.4, 0.4, 12.8]]), SHAPE, VOXEL)
    assert maps.shape == (3, 8, 16, 16)
    assert maps[0].sum() == pytest.approx(12.8, rel=1e-5)
    assert np.allclose(maps[0, 0, 0], 0.8, atol=0.051) and np.count_nonzero(maps[0]) == 16
    # Straight: no bend anywhere; the ends, smoothed from one side alone, are not asked for.
    assert maps[2].max() < 1e-6 and maps[1].sum() == pytest.approx(12.8 - 2.0, abs=0.21)


def test_curvature_of_an_arc_is_found_in_its_cells_and_agrees_with_the_mean() -> None:
    lines = [arc(4.0), arc(2.5, z=1.0)]
    maps = scene_maps(scene_of(*lines), SHAPE, VOXEL)
    assert maps[2].sum() / maps[1].sum() == pytest.approx(mean_curvature(lines), rel=5e-3)
    targets, weights = map_targets(torch.from_numpy(maps)[None])
    known = weights[0, 1] > 0
    curvature = torch.exp(targets[0, 1] * maps_module.CURVATURE_SD + maps_module.CURVATURE_MEAN)
    lower, upper = curvature[1][known[1]], curvature[3][known[3]]  # z 1.0 and 3.0 um
    assert torch.allclose(lower, torch.tensor(1 / 2.5), rtol=0.05) and torch.allclose(
        upper, torch.tensor(0.25), rtol=0.05
    )


def test_what_lies_outside_is_left_out() -> None:
    beyond = [[3.0, 6.0, 10.0], [3.0, 6.0, 20.0]]
    assert scene_maps(scene_of(beyond), SHAPE, VOXEL)[0].sum() == pytest.approx(2.8, abs=0.1)
    assert scene_maps(scene_of(), SHAPE, VOXEL).max() == 0.0


def test_cells_of_the_maps_are_those_of_the_stage_they_are_read_from() -> None:
    _, stages = FeatureNet().with_stages(torch.zeros(1, 1, *SHAPE))
    assert stages[STAGE].shape[2:] == scene_maps(scene_of(), SHAPE, VOXEL).shape[1:]


SIMULATION = wide_simulation().model_copy(
    update={"shape": (8, 32, 32), "length_density_um_per_um3": (0.8, 1.5), "psf_width_factor": (0.8, 0.81)}
)
CONFIG = FeatureTrainConfig(
    simulations=(SIMULATION,), num_volumes=8, num_validation=16, chunk=4, window=(8, 16, 16), pairs=4
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bank")
    build_feature_bank(CONFIG, path, 300.0, 1, lambda _: None)
    return path


def test_the_bank_holds_the_maps_of_its_scenes_and_opens_again(folder: Path) -> None:
    bank = load_feature_bank(CONFIG, folder)
    scene = Simulator(SIMULATION).scene(CONFIG.simulation_seed, 5)
    assert np.array_equal(bank.maps[bank.train[5]], scene_maps(scene, SIMULATION.shape, VOXEL))
    assert len(bank.train) == 8 and bank.maps[:, 0].sum() > 0
    other = CONFIG.model_copy(update={"simulation_seed": 1})
    with pytest.raises(TrainingError, match="other distributions"):
        load_feature_bank(other, folder)
    with pytest.raises(TrainingError, match="expected a bank"):
        load_feature_bank(CONFIG, folder / "missing")


def test_maps_are_cropped_and_turned_with_their_volume(folder: Path) -> None:
    """Where the volume is bright there is filament, whatever was drawn: correlation of cell sums and lengths."""
    bank: FeatureBank = load_feature_bank(CONFIG, folder)
    maker = ViewMaker(CONFIG, bank, torch.device("cpu"))
    rng = np.random.default_rng(3)
    light, length, seen = [], [], set()
    for _ in range(6):
        views = maker.views(bank.train, fixed(8, photons=1e7, background=0.0), rng)
        assert views.maps.shape == (16, 3, 2, 2, 2)
        light.append(torch.nn.functional.avg_pool3d(views.volumes, CELL).flatten().numpy())
        length.append(views.maps[:, 0].flatten().numpy())
        seen.update(views.maps[0, 0].flatten().tolist())
    found = np.corrcoef(np.concatenate(light), np.concatenate(length))[0, 1]
    wrong = np.corrcoef(np.concatenate(light), np.concatenate(length[1:] + length[:1]))[0, 1]
    assert found > 0.6 and found > wrong + 0.4 and len(seen) > 8


def test_the_loss_of_maps_asks_only_where_something_can_be_known() -> None:
    maps = torch.zeros(2, 3, 1, 1, 2)
    maps[:, 0] = 0.8
    maps[:, 1, ..., 0], maps[:, 2, ..., 0] = 0.8, 0.8 * 0.3  # curvature known in the first cell alone

    def views(known: float) -> Views:
        return Views(torch.zeros(2, 1, 4, 8, 16), torch.zeros(1, 2), torch.full((1, 2), known), torch.zeros(1), maps)

    right, _ = map_targets(maps)
    assert map_loss(right, views(1.0)) == pytest.approx(0.0, abs=1e-7)
    elsewhere = right.clone()
    elsewhere[:, 1, ..., 1] += 5.0
    assert map_loss(elsewhere, views(1.0)) == pytest.approx(0.0, abs=1e-7)
    there = right.clone()
    there[:, 1, ..., 0] += 2.0
    assert map_loss(there, views(1.0)) == pytest.approx(1.5, rel=1e-5)  # smooth L1 of 2
    assert map_loss(there, views(0.0)) == 0.0  # scrambled beyond recognition
