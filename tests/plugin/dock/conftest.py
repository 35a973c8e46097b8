"""A dock that is ready to generate, and a wait for what it has let go."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Imports of the plugin and of Qt are inside the fixtures: without napari this file is read all the same.
if TYPE_CHECKING:
    from tests.plugin.dock.helpers import Wait

    from napari_vqldm.plugin.dock import Dock


@pytest.fixture
def ready(shown_dock: Dock, tiny_checkpoints: dict[str, Path]) -> Dock:
    """The dock on the screen, with the tiny ldm model."""
    from tests.plugin.dock.helpers import use

    return use(shown_dock, tiny_checkpoints["ldm"])


@pytest.fixture
def let_go(wait_until: Wait) -> Callable[..., None]:
    """Wait until weak references are dead."""
    from qtpy.QtWidgets import QApplication

    def wait(*references: weakref.ref[Any]) -> None:
        def are_gone() -> bool:
            QApplication.sendPostedEvents(None, 52)  # deferred deletions
            gc.collect()
            return all(reference() is None for reference in references)

        try:
            wait_until(are_gone, timeout=5_000)
        except Exception:
            for reference in references:
                if (kept := reference()) is not None:
                    print(type(kept).__name__, "kept by", [type(r).__name__ for r in gc.get_referrers(kept)])
            raise

    return wait
