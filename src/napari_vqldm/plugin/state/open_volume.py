"""What a file holds, and which part of it becomes a layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import SignalGroupDescriptor

from napari_vqldm.errors import VolumeError
from napari_vqldm.files.provenance import SeriesAxis, axis_of
from napari_vqldm.volume import Float3, check_voxel_size

if TYPE_CHECKING:
    from napari_vqldm.files.stack import Stack

UNNAMED = "QI"  # axes whose meaning the file does not say


@dataclass(frozen=True)
class FileContent:
    """What a file holds, told from its header.

    Attributes
    ----------
    path : str
        Of the file.
    name : str
        Its last part.
    axes, shape
        As in the file.
    channels : tuple of str
        One entry for each channel: its name, or its number.
    num_times : int
        Time points.
    is_time_assumed : bool
        The file does not name the axis that is taken for time.
    voxel_size_um : tuple
        (z, y, x); None where the file does not say.
    axis : SeriesAxis
        Where the time points lie, of a series that the dock saved; else one after the other.
    """

    path: str
    name: str
    axes: str
    shape: tuple[int, ...]
    channels: tuple[str, ...] = ("0",)
    num_times: int = 1
    is_time_assumed: bool = False
    voxel_size_um: tuple[float | None, float | None, float | None] = (None, None, None)
    axis: SeriesAxis = field(default_factory=SeriesAxis)


def content_of(path: str | Path, stack: Stack) -> FileContent:
    """Tell what the user has to choose from."""
    sizes = dict(zip(stack.axes, stack.shape, strict=True))
    num_channels, num_times = sizes.get("C", 1), sizes.get("T", 1)
    # An axis without a name is z where there is no other z; one more is taken for time, as napari does.
    unnamed = [n for letter, n in zip(stack.axes, stack.shape, strict=True) if letter in UNNAMED and n > 1]
    spare = unnamed if "Z" in sizes else unnamed[:-1]
    is_assumed = len(spare) == 1 and "T" not in sizes
    names = stack.channel_names if len(stack.channel_names) == num_channels else ()
    channels = tuple(names[i] if names and names[i] else str(i) for i in range(num_channels))
    return FileContent(
        path=str(path),
        name=Path(path).name,
        axes=stack.axes,
        shape=tuple(stack.shape),
        channels=channels,
        num_times=spare[0] if is_assumed else num_times,
        is_time_assumed=is_assumed,
        voxel_size_um=stack.voxel_size_um,
        axis=axis_of(stack.provenance),
    )


@dataclass
class OpenState:
    """The choice of one volume, or series of volumes, from a file.

    Attributes
    ----------
    content : FileContent or None
        What there is to choose from.
    channel, time : int
        From 0.
    all_times : bool
        Open every time point, as one layer.
    voxel_size_um : tuple of float
        (z, y, x) as entered, at first that of the file; 0 where unknown.
    """

    content: FileContent | None = None
    channel: int = 0
    time: int = 0
    all_times: bool = False
    voxel_size_um: Float3 = (0.0, 0.0, 0.0)

    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    def take(self, content: FileContent) -> None:
        """Start the choice anew with another file."""
        self.channel, self.time, self.all_times = 0, 0, False
        z, y, x = (value or 0.0 for value in content.voxel_size_um)
        self.voxel_size_um = (z, y, x)
        self.content = content

    @property
    def needs_choice(self) -> bool:
        """Whether something is left to the user."""
        content = self.content
        return content is not None and (
            len(content.channels) > 1 or content.num_times > 1 or None in content.voxel_size_um
        )

    def why_not(self) -> str:
        """Return why the file cannot be opened yet; empty when it can."""
        if self.content is None:
            return "Choose a file first."
        if 0.0 in self.voxel_size_um:
            return "The file states no voxel size: enter z, y and x in micrometres."
        try:
            check_voxel_size(self.voxel_size_um)
        except VolumeError as error:
            return f"{str(error)[:1].upper()}{str(error)[1:]}."
        return ""

    def times(self) -> tuple[int | None, ...]:
        """Return the time points to read; (None,) for a file without time."""
        if self.content is None or self.content.num_times == 1:
            return (None,)
        return tuple(range(self.content.num_times)) if self.all_times else (self.time,)

    def to_request(self) -> dict[str, Any]:
        """Return the keyword arguments of `napari_vqldm.read_volume`, apart from path and time.

        Raises
        ------
        VolumeError
            If the voxel size is missing or absurd.
        """
        if self.content is None:
            raise VolumeError("expected a file to open, got none: choose one")
        request: dict[str, Any] = {}
        if len(self.content.channels) > 1:
            request["channel"] = self.channel
        if tuple(self.voxel_size_um) != self.content.voxel_size_um:
            if 0.0 in self.voxel_size_um:
                raise VolumeError("the file states no voxel size: enter z, y and x in micrometres")
            request["voxel_size_um"] = check_voxel_size(self.voxel_size_um)
        return request
