"""Every test runs offline and, unless it is marked ``gpu``, on the CPU."""

from __future__ import annotations

import gc
import os
import socket
from typing import Any

import pytest

LOCAL_FAMILIES = {getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK") if hasattr(socket, name)}
LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost"}


def pytest_configure(config: pytest.Config) -> None:
    """Hide CUDA devices before anything imports torch, so that a GPU node runs the same tests as a laptop."""
    if "gpu" not in (config.option.markexpr or "").replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish() -> None:
    """Keep what is imported by now out of the garbage collector's way: PyTorch alone is half a million objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def _clean_themes() -> None:
    """Instead of the one that napari, once installed, runs around every test: tests of the core load no napari."""


@pytest.fixture
def _disable_qt_warnings() -> None:
    """As `_clean_themes`: this one would load Qt."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to another machine is an error: nothing in the package needs one."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in LOCAL_FAMILIES or address[0] in LOCAL_HOSTS:
            connect(self, address)
            return
        raise RuntimeError(f"a test tried to reach {address!r}: tests run offline")

    monkeypatch.setattr(socket.socket, "connect", refuse)
