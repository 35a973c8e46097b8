"""Preferences: defaults, changes, and what happens without napari."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from npe2 import PluginManager, PluginManifest

from napari_vqldm.plugin.settings import PLUGIN, Settings, read_settings


@pytest.fixture
def compute(plugin_settings: None, npe2pm: PluginManager) -> Iterator[Any]:
    """The preferences that napari keeps for the installed plugin, in a folder of this test."""
    from napari.settings import get_plugin_settings

    npe2pm.register(PluginManifest.from_distribution(PLUGIN))
    return get_plugin_settings(PLUGIN).compute


def test_defaults_of_the_manifest_are_those_of_the_code(compute: Any) -> None:
    assert compute.model_dump() == asdict(Settings())
    assert read_settings() == Settings()


def test_a_changed_preference_is_read_and_kept(compute: Any) -> None:
    from napari.settings import get_plugin_settings

    compute.device, compute.threads, compute.cache_mib, compute.precision = "cpu", 3, 64, "bf16"
    assert read_settings() == Settings("cpu", "bf16", 3, 64)
    stored = get_plugin_settings(PLUGIN).config_path.read_text()
    assert "threads: 3" in stored and "device: cpu" in stored


@pytest.mark.parametrize("name, value", [("device", "tpu"), ("precision", "fp8"), ("threads", -1), ("cache_mib", -5)])
def test_impossible_preferences_are_refused(compute: Any, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        setattr(compute, name, value)
    assert read_settings() == Settings()


def test_defaults_where_napari_does_not_know_the_plugin(plugin_settings: None) -> None:
    assert read_settings() == Settings()


def test_defaults_without_napari(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari.settings", None)
    assert read_settings() == Settings()
