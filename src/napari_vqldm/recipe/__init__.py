"""From the record of a volume back to the program, or the commands, that compute it again, bit for bit."""

from __future__ import annotations

from napari_vqldm.recipe.calls import Call, call_of
from napari_vqldm.recipe.commands import call_words, command_line, command_words
from napari_vqldm.recipe.script import python_script
from napari_vqldm.recipe.shell import join_commands
from napari_vqldm.recipe.sources import FileInput
from napari_vqldm.recipe.tree import Input, Node, read_recipe, walk

__all__ = [
    "Call",
    "FileInput",
    "Input",
    "Node",
    "call_of",
    "call_words",
    "command_line",
    "command_words",
    "join_commands",
    "python_script",
    "read_recipe",
    "walk",
]
