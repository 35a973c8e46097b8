"""The words of a command as a line that a shell takes apart again; the shells of Windows quote in their own way."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence

from napari_vqldm.errors import RecipeError

_IS_WINDOWS = os.name == "nt"
# Anything else may mean something to cmd.exe or PowerShell, which takes 1,2 for two words.
_PLAIN = re.compile(r"[\w.:/\\+=-]+", re.ASCII)
# What at least one of the two shells changes also between double quotes, the only ones that both know. PowerShell: the
# back tick, $name and $(...), and quotes of any form; but the $ of \\server\c$\data stays. cmd.exe: %name%.
_CHANGED = re.compile(r"[\"\u201c-\u201e`\x00-\x08\x0a-\x1f]|\$(?:\w+|[({$^?:])|%[^%]+%")


def join_commands(commands: Iterable[Sequence[str]]) -> str:
    """Return commands as lines to be pasted into a shell of this computer.

    Parameters
    ----------
    commands : iterable of sequence of str
        Program and arguments each.

    Returns
    -------
    str
        One line each: for a POSIX shell; on Windows for cmd.exe, where delayed expansion of ``!name!`` is off as it is
        from the start, and for PowerShell.

    Raises
    ------
    RecipeError
        On Windows, if a word has no form that both shells take for the same: an empty word, one with a double quote,
        a back tick, a line break, ``$name`` or ``%name%``.
    """
    return "\n".join(" ".join(map(_windows_word, words)) if _IS_WINDOWS else shlex.join(words) for words in commands)


def _windows_word(word: str) -> str:
    """Quote one word as both shells, and programs on Windows, take it apart again."""
    if _PLAIN.fullmatch(word):
        return word
    changed = _CHANGED.search(word)
    if changed is not None or not word:
        what = "an empty word" if changed is None else f"{changed[0]!r} in {word!r}"
        raise RecipeError(
            f"expected words that cmd.exe and PowerShell leave as they are, got {what}: use the Python program, or "
            "rename the file"
        )
    tail = len(word) - len(word.rstrip("\\"))  # before the last quote a backslash counts twice
    return f'"{word}{tail * chr(92)}"'
