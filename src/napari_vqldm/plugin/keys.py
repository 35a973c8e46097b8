"""Keys of the dock: bound while it is open, because napari ignores those of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

KEYS = {
    "Control-Alt-G": ("generate", "Generate"),
    "Control-Alt-R": ("reconstruct", "Reconstruct"),
    "Control-Alt-B": ("blink", "Blink between input and reconstruction"),
    "Control-Alt-Z": ("undo", "Take back the layers that were added last"),
    "Control-Alt-X": ("cancel", "Cancel what is running"),
}


def bind_keys(viewer: Any, actions: Mapping[str, Callable[[], Any]]) -> list[str]:
    """Bind the keys whose action is given and which are still free; return those that were bound."""
    taken = {str(key) for key in viewer.keymap}
    bound = []
    for key, (name, _) in KEYS.items():
        if name not in actions or key in taken:
            continue
        viewer.bind_key(key, _press(actions[name]), overwrite=True)
        bound.append(key)
    return bound


def unbind_keys(viewer: Any, keys: list[str]) -> None:
    """Give the keys back."""
    for key in keys:
        viewer.bind_key(key, None)


def _press(action: Callable[[], Any]) -> Callable[[Any], Iterator[None] | None]:
    def pressed(_viewer: Any) -> None:
        action()

    return pressed
