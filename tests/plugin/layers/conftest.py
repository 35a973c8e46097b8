"""A viewer without a window, and a volume with a record."""

from __future__ import annotations

from typing import Any

import pytest

from napari_vqldm.volume import Volume, seal


@pytest.fixture
def model() -> Any:
    """A viewer without a window: layers need no canvas."""
    from napari.components import ViewerModel

    return ViewerModel()


@pytest.fixture
def recorded() -> Volume:
    """A volume of ours, with a sealed record."""
    from tests.plugin.layers.helpers import stack

    record = {"software": "napari-vqldm", "verb": "generate", "request": {"seed": 7}}
    return seal(Volume(stack(6, 9, 11), (0.2, 0.1, 0.1), record, "sample"))
