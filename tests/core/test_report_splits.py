"""Which splits of a tier stand beside a reference: three different ones, and none that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_vqldm.files import write_volume
from napari_vqldm.report import evaluate as module
from napari_vqldm.report.evaluate import Effort, evaluate_steps
from napari_vqldm.report.parallel import Workers
from napari_vqldm.report.rows import other_split
from napari_vqldm.report.sets import VOXEL_SIZE_UM, WINDOW, Array
from napari_vqldm.simulate.mt_sim import SPLITS, Split, mt_sim_split
from napari_vqldm.volume import Volume


@pytest.mark.parametrize("tier", ["sparse", "standard", "hard"])
@pytest.mark.parametrize("name", SPLITS)
def test_unseen_volumes_are_of_no_other_row(
    tier: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.zeros(WINDOW, np.float32)
    data[16, 20:-20:12] = 1.0
    for number in range(6):
        made = {"verb": "generate", "request": {"camera": None}}
        write_volume(tmp_path / f"{number}.ome.tif", Volume(data, VOXEL_SIZE_UM, made))
    used: list[str] = []

    def simulated(split: Split, count: int, workers: Workers) -> Iterator[SimpleNamespace]:
        used.append(split.name)
        for _ in range(count):
            yield SimpleNamespace(recorded=data, clean=data)

    def recorded(clean: list[Array], split: Split, workers: Workers) -> list[Array]:
        used.append(split.name)
        return clean

    monkeypatch.setattr(module, "simulated", simulated)
    monkeypatch.setattr(module, "recorded", recorded)
    reference = mt_sim_split(tier, name)
    steps = evaluate_steps(tmp_path, reference, Effort("small", 6, 1, 1, 1))
    while "simulating another seed" not in next(steps).doing:
        pass
    unseen, first, second = used
    assert (unseen, first) == (other_split(reference).name, name)
    assert len({unseen, first, second}) == 3
    assert "train" not in (unseen, second)
    assert other_split(reference).tier == tier
