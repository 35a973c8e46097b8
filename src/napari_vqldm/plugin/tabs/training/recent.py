"""Run folders that were followed before, newest first; they outlive the program."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSettings

MOST = 8
_KEY = "recent"


def recent_runs() -> list[str]:
    """Return the folders; whether they are still there is not looked at, which could take long."""
    found: Any = _settings().value(_KEY, [])
    texts = [found] if isinstance(found, str) else found or []  # a list of one comes back as its element
    return [str(text) for text in texts][:MOST]


def remember_run(path: str) -> None:
    """Put a folder in front."""
    others = [text for text in recent_runs() if text != path]
    _settings().setValue(_KEY, [path, *others][:MOST])


def _settings() -> QSettings:
    return QSettings(QSettings.Format.IniFormat, QSettings.Scope.UserScope, "napari-vqldm", "runs")
