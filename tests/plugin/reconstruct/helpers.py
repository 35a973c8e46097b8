"""Stacks, and what the core makes of them, for tests of the Reconstruct tab."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab
from napari_vqldm.volume import Volume

SIZE = (0.2, 0.1, 0.1)


def stack(seed: int = 0, shape: tuple[int, ...] = (8, 24, 24)) -> np.ndarray:
    """Noise with a bright bar: something with background, contrast and noise."""
    rng = np.random.default_rng(seed)
    data = rng.normal(100.0, 5.0, shape).astype(np.float32)
    data[..., 3:5, 10:13, :] += 80.0
    return data


def add(viewer: Any, name: str = "cell", **arguments: Any) -> Any:
    data = arguments.pop("data", None)
    data = stack() if data is None else data
    placed: dict[str, Any] = {"scale": SIZE, "units": ("um",) * 3, "contrast_limits": (80.0, 200.0), **arguments}
    return viewer.add_image(data, name=name, **placed)


def loaded(tab: ReconstructTab) -> Any:
    """The model of the tab, on this thread and with as many threads as the tab computes with."""
    import torch

    from napari_vqldm.checkpoint import load_checkpoint

    torch.set_num_threads(tab.desk.model.threads)
    return load_checkpoint(tab.desk.model.path, "cpu")


def expected(tab: ReconstructTab, data: np.ndarray, size: tuple[float, float, float] = SIZE) -> Volume:
    """What the core makes of the same voxels."""
    from napari_vqldm.reconstruct import reconstruct

    return reconstruct(loaded(tab), Volume(data, size))
