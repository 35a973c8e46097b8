"""Find the volume of a layer in the file that the layer was opened from."""

from __future__ import annotations

from dataclasses import dataclass

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.layers.info import LayerInfo


@dataclass(frozen=True)
class FilePart:
    """Channel and time point of a file; None where it has only one."""

    channel: int | None
    time: int | None


def find_in_file(
    path: str | None, name: str, info: LayerInfo, time: int | None, channel: int | None
) -> FilePart | None:
    """Find a volume in its file by the sizes of the axes; only the header of the file is read.

    Parameters
    ----------
    path : str or None
        File that the layer was opened from.
    name : str
        Of the layer: readers that make one layer per channel name it so.
    info : LayerInfo
        Of the layer.
    time, channel : int or None
        What was chosen in the layer.

    Returns
    -------
    FilePart or None
        None when there is no file that `read_volume` reads, or the sizes leave a doubt.
    """
    from napari_vqldm.files import READABLE_SUFFIXES, open_stack

    if path is None or not path.lower().endswith(READABLE_SUFFIXES):
        return None
    try:
        stack = open_stack(path)
    except VqldmError:
        return None
    volume_shape = tuple(info.shape[axis] for axis in info.spatial_axes)
    sizes = dict(zip(stack.axes, stack.shape, strict=True))
    if not set("ZYX") <= set(sizes):  # a bare array: its axes have no names
        return FilePart(None, None) if len(info.shape) == 3 and stack.shape == info.shape else None
    if tuple(sizes[letter] for letter in "ZYX") != volume_shape:
        return None
    # Other programs call the channels of a layer time: the size tells which axis of the file was meant.
    leading = ((info.num_times, time), (info.num_channels, channel))
    chosen = [(count, index) for count, index in leading if count > 1 and index is not None]
    wanted = [letter for letter in stack.axes if letter in "TC" and sizes[letter] > 1]
    part: dict[str, int] = {}
    if "C" in wanted and len(chosen) < len(wanted) and stack.channel_names.count(name) == 1:
        part["C"] = stack.channel_names.index(name)
        wanted.remove("C")
    if [sizes[letter] for letter in wanted] != [count for count, _ in chosen]:
        return None
    part |= {letter: index for letter, (_, index) in zip(wanted, chosen, strict=True)}
    return FilePart(channel=part.get("C"), time=part.get("T"))
