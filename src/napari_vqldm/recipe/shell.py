"""The words of a command as a line that a shell takes apart again; the shells of Windows quote in their own way."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence

_IS_WINDOWS = os.name == "nt"
# Anything else may mean something to cmd.exe or PowerShell, which takes 1,2 for two words.
_PLAIN = re.compile(r"[\w.:/\\+=-]+", re.ASCII)


def join_commands(commands: Iterable[Sequence[str]]) -> str:
    """Return commands as lines to be pasted into a shell of this computer.

    Parameters
    ----------
    commands : iterable of sequence of str
        Program and arguments each.

    Returns
    -------
    str
        One line each: for a POSIX shell, on Windows for cmd.exe and PowerShell.
    """
    return "\n".join(" ".join(map(_windows_word, words)) if _IS_WINDOWS else shlex.join(words) for words in commands)


def _windows_word(word: str) -> str:
    """Quote one word as programs on Windows take it apart again."""
    text = subprocess.list2cmdline([word])  # which puts quotes around blanks alone
    if _PLAIN.fullmatch(word) or not word or " " in word or "\t" in word:
        return text
    tail = len(text) - len(text.rstrip("\\"))  # before the last quote a backslash counts twice
    return '"' + text + tail * "\\" + '"'
