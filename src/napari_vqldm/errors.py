"""Errors that a user can act on: what was expected, what came, what to do.

Every error that the package raises on purpose derives from `VqldmError`; the command line prints it as one line and
leaves with exit code 2. Anything else that escapes is a bug.
"""

from __future__ import annotations


class VqldmError(Exception):
    """Base of every deliberate error. The message is one line that a user can act on."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class ShapeError(VqldmError):
    """An array or tensor has the wrong number of axes or the wrong size."""


class VolumeError(VqldmError):
    """The content of a volume cannot be used: NaN, constant, 2D, unknown voxel size."""


class ChoiceError(VolumeError):
    """A readable file leaves something to the user: several channels or time points, or no voxel size."""


class FileError(VqldmError):
    """A file cannot be read or written: missing, truncated, foreign, full disk, exists already."""


class ConfigError(VqldmError):
    """A configuration value is unknown, out of range or contradicts another."""


class RecipeError(ConfigError):
    """A record cannot be turned back into a program or a command: foreign, incomplete, or its input is no file."""


class CheckpointError(VqldmError):
    """A checkpoint is foreign, truncated, unsafe, or does not fit its own configuration."""


class ConditionError(VqldmError):
    """A requested condition is unknown to the model or outside its trained range."""


class TrainingError(VqldmError):
    """A training stage collapsed or failed its quality gate."""


class WorkerError(VqldmError):
    """A process that shared the work of a command died."""


class MemoryLimitError(VqldmError):
    """The work does not fit in memory, even in the smallest parts."""
