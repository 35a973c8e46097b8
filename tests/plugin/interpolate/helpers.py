"""Stacks, choices of ends and looks at frames for tests of the Interpolate tab."""

from __future__ import annotations

import numpy as np

import napari_vqldm as nv
from napari_vqldm.plugin.state import interpolate as state
from napari_vqldm.plugin.tabs.interpolate import ways
from napari_vqldm.plugin.tabs.interpolate.end import SEED
from napari_vqldm.plugin.tabs.interpolate.tab import InterpolateTab
from napari_vqldm.volume import Volume

SHAPE = (8, 16, 16)
SIZE = (0.22, 0.2, 0.2)


def stack(seed: int, shape=SHAPE) -> np.ndarray:
    """A few bright lines on noise."""
    rng = np.random.default_rng(seed)
    data = rng.normal(100, 5, shape).astype(np.float32)
    for _ in range(3):
        data[rng.integers(shape[0]), rng.integers(shape[1]), :] += 200
    return data


def add(viewer, name: str, seed: int = 0, shape=SHAPE, size=SIZE, **keywords):
    return viewer.add_image(stack(seed, shape), name=name, scale=size, units=("um",) * 3, **keywords)


def choose(tab: InterpolateTab, viewer, a: str, b: str) -> None:
    tab.ends.a.picker.choose(viewer.layers[a])
    tab.ends.b.picker.choose(viewer.layers[b])


def seeds(tab: InterpolateTab, a: int = 3, b: int = 5) -> None:
    for box, seed in ((tab.ends.a, a), (tab.ends.b, b)):
        box.choice.setCurrentIndex(SEED)
        box.seed_box.seed = seed


def shown_t(tab: InterpolateTab) -> float | None:
    """Where the frame is that the layer shows in full."""
    frame = tab.view.frame if tab.view is not None else None
    return None if frame is None or frame.quality == "preview" else frame.t


def make_decoder(monkeypatch, speed: str) -> None:
    """Let every full decode count as ``fast`` or ``slow``."""
    limit = {"fast": 1e9, "slow": -1.0}[speed]
    for module in (state, ways):
        monkeypatch.setattr(module, "LIVE_S", limit)


def latents(model, viewer):
    return [nv.encode(model, Volume(viewer.layers[name].data, SIZE, {}, name)) for name in ("a", "b")]


def lose_memory(monkeypatch, most: int, *, after: int = 0) -> list[int]:
    """Let decoding of more than ``most`` voxels at once run out of memory after some frames; return what was tried."""
    import sys

    import napari_vqldm.interpolate as _  # noqa: F401  # its name in the package is the verb

    module = sys.modules["napari_vqldm.interpolate"]
    steps, tried, whole = module.interpolate_steps, [], []

    def short_of_memory(*ends, max_voxels: int):
        tried.append(max_voxels)
        if max_voxels > most and len(whole) >= after:
            raise MemoryError
        whole.append(max_voxels)
        yield from steps(*ends, max_voxels=max_voxels)

    monkeypatch.setattr(module, "interpolate_steps", short_of_memory)
    return tried
