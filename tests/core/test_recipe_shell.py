"""Commands as lines for the shells of Linux and macOS, and of Windows."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from napari_vqldm.errors import RecipeError
from napari_vqldm.recipe import Call, call_words, join_commands, shell

WORDS = ["napari-vqldm", "reconstruct", "C:\\my data\\it's.tif", "--crop", "0:8,2:30,0:32", "a&b", "50% $ ^"]
# What no quotes keep in both shells of Windows.
CHANGED = ["", 'say "x"', "C:\\$run1\\cell.tif", "$(x)", "${x}", "a`nb", "%TEMP%\\cell.tif", "\u201ccell\u201d", "a\nb"]


@pytest.fixture(params=["posix", "nt"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(shell, "_IS_WINDOWS", request.param == "nt")
    return request.param


def take_apart(line: str) -> list[str]:
    """As programs on Windows do it: the rules of CommandLineToArgvW, for lines whose quotes come in pairs."""
    words, word, is_quoted, is_word, i = list[str](), "", False, False, 0
    while i < len(line):
        count = len(line[i:]) - len(line[i:].lstrip("\\"))
        if count and line[i + count : i + count + 1] == '"':
            word += "\\" * (count // 2) + '"' * (count % 2)
            i += count + count % 2
        elif count:
            word += "\\" * count
            i += count
        elif line[i] == '"':
            is_quoted, i = not is_quoted, i + 1
        elif line[i] in " \t" and not is_quoted:
            words += [word] if is_word else []
            word, is_word, i = "", False, i + 1
            continue
        else:
            word, i = word + line[i], i + 1
        is_word = True
    return [*words, word] if is_word else words


def test_a_shell_takes_a_line_apart_into_the_same_words(system: str) -> None:
    words = WORDS + [word for word in CHANGED if system == "posix" and "\n" not in word]
    first, second = join_commands([words, ["napari-vqldm", "crop"]]).split("\n")
    assert (shlex.split if system == "posix" else take_apart)(first) == words
    assert second == "napari-vqldm crop"


@pytest.mark.parametrize("word", CHANGED)
def test_what_a_shell_of_windows_would_change_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setattr(shell, "_IS_WINDOWS", True)
    with pytest.raises(RecipeError, match=r"leave as they are, got .*use the Python program") as refused:
        join_commands([["napari-vqldm", "crop", word]])
    assert "\n" not in str(refused.value) and (repr(word) if word else "an empty word") in str(refused.value)
    monkeypatch.setattr(shell, "_IS_WINDOWS", False)
    assert shlex.split(join_commands([["crop", word]])) == ["crop", word]


@pytest.mark.parametrize("word", ["\\\\server\\c$\\data\\a b.tif", "100% sure.tif", "a$", "\u2018it\u2019s\u2019.tif"])
def test_signs_that_mean_nothing_where_they_stand_are_kept(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(shell, "_IS_WINDOWS", True)
    assert join_commands([["crop", word]]) == f'crop "{word}"'


def test_windows_has_double_quotes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_IS_WINDOWS", True)
    line = join_commands([WORDS])
    assert line.startswith('napari-vqldm reconstruct "C:\\my data\\it\'s.tif" --crop "0:8,2:30,0:32" "a&b" "50% $ ^"')
    assert join_commands([["C:\\data\\cell.tif", "--out", "C:\\a,b\\"]]) == 'C:\\data\\cell.tif --out "C:\\a,b\\\\"'
    assert take_apart('"C:\\a,b\\\\" c') == ["C:\\a,b\\", "c"]


def test_a_call_that_was_not_run_yet_becomes_a_command() -> None:
    call = Call("generate", has_model=True, options={"count": 3, "shape": (4, 8, 8), "batch": 2, "guidance_scale": 1.5})
    words = call_words(call, model="a model.safetensors", device="cuda:1", threads=2, out="generated")
    assert words[:6] == ["napari-vqldm", "--threads", "2", "generate", "--model", "a model.safetensors"]
    assert words[6:15] == ["--count", "3", "--shape", "4", "8", "8", "--batch", "2", "--guidance"]
    assert words[15:] == ["1.5", "--device", "cuda:1", "--out", "generated"]  # all of the batch: no --only
