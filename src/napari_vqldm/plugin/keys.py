"""Keys of the dock: bound while it is open, because napari ignores those of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from napari.utils.key_bindings import coerce_keybinding

KEYS = {
    "Control-Alt-G": ("generate", "Generate"),
    "Control-Alt-R": ("reconstruct", "Reconstruct"),
    "Control-Alt-B": ("blink", "Blink between input and reconstruction"),
    "Control-Alt-Z": ("undo", "Take back the layers that were added last"),
    "Control-Alt-Shift-Z": ("redo", "Add again what was taken back last"),
    "Control-Alt-X": ("cancel", "Cancel what runs and what waits"),
}


def bind_keys(viewer: Any, actions: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Bind the keys whose action is given and which are still free; return those that were bound, with what they do."""
    taken = {_spelled(key) for key in viewer.keymap}
    bound = {}
    for key, (name, _) in KEYS.items():
        if name not in actions or _spelled(key) in taken:
            continue
        bound[key] = _press(actions[name])
        viewer.bind_key(key, bound[key])
    return bound


def unbind_keys(viewer: Any, bound: Mapping[str, Any]) -> None:
    """Give the keys back, apart from those that somebody else has bound since."""
    present = {_spelled(key): action for key, action in viewer.keymap.items()}
    for key, action in bound.items():
        if present.get(_spelled(key)) is action:
            viewer.bind_key(key, None)


def _spelled(key: Any) -> str:
    """One spelling of a key: napari keeps "Control-Alt-G" as "Ctrl+Alt+G"."""
    return "" if key is Ellipsis else str(coerce_keybinding(key))


def _press(action: Callable[[], Any]) -> Callable[[Any], None]:
    def pressed(_viewer: Any) -> None:
        action()

    return pressed
