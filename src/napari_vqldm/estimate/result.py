"""An estimate and its sentences."""

from __future__ import annotations

from dataclasses import dataclass

from napari_vqldm.estimate.outline import Outline


@dataclass(frozen=True)
class Estimate:
    """What a job takes beyond the loaded model and the volumes that exist before it.

    Attributes
    ----------
    memory_bytes : int
        Most memory at once on the device of the networks: main memory for the CPU. For a model that is still to be
        loaded, with its weights.
    seconds : float
        Wall time on an otherwise idle machine.
    available_bytes : int or None
        Free memory of that device now; None where it is not known.
    main_memory_bytes : int
        Most main memory at once; equals ``memory_bytes`` on the CPU.
    available_main_bytes : int or None
        Free main memory now.
    is_measured : bool
        Whether the time comes from a self-test of this machine and is good within a factor of 2; else it is rough.
    lines : tuple of str
        The same in sentences for a user.
    """

    memory_bytes: int
    seconds: float
    available_bytes: int | None
    main_memory_bytes: int
    available_main_bytes: int | None
    is_measured: bool
    lines: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the memory is there; True where it is not known."""
        pairs = ((self.memory_bytes, self.available_bytes), (self.main_memory_bytes, self.available_main_bytes))
        return all(free is None or needed <= free for needed, free in pairs)


def tell(
    outline: Outline,
    needed: int,
    main_needed: int,
    seconds: float,
    is_measured: bool,
    free: int | None,
    main_free: int | None,
) -> Estimate:
    """Put numbers into sentences, beside the memory that is free now."""
    memory = f"{_size(needed)} of memory{_free(free)}"
    if outline.device is None:
        lines = [f"about {memory} on the CPU", "the first run looks for a GPU; from then on the time is told as well"]
    else:
        lines = [f"about {_duration(seconds)}, {memory}"]
        if outline.kind != "cpu":
            lines.append(f"and {_size(main_needed)} of main memory{_free(main_free)}")
        if not is_measured:
            lines.append("the time is rough: a self-test of the model makes it better")
        if outline.weights_bytes:
            lines.append("the model is loaded first, which takes some seconds more")
    result = Estimate(needed, seconds, free, main_needed, main_free, is_measured, tuple(lines))
    if not result.fits:
        return Estimate(
            **{**vars(result), "lines": (*lines, "this does not fit: choose less, or close other programs")}
        )
    return result


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{max(seconds, 0.1):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"


def _free(free: int | None) -> str:
    return "" if free is None else f" ({_size(free)} free)"
