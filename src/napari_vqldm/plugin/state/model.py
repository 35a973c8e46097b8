"""Which model is chosen and where it computes; its card is read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from psygnal import SignalGroupDescriptor

from napari_vqldm.card import Header, read_header
from napari_vqldm.condition_ranges import allowed_conditions
from napari_vqldm.plugin.inference.engine import ModelSpec
from napari_vqldm.plugin.state.knobs import knob
from napari_vqldm.zoo import available, resolve

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("fp32", "bf16")
MOST_THREADS = 1024


@dataclass
class ModelState:
    """The chosen checkpoint and how it computes.

    Attributes
    ----------
    name : str
        What the user chose: a bundled name, or the path of a checkpoint; empty when none is open.
    header : Header or None
        Its card and configuration.
    device, precision : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``; ``fp32`` or ``bf16``.
    threads : int
        Threads of the CPU; 0 leaves the choice to this package.
    """

    name: str = ""
    header: Header | None = None
    device: str = knob(
        "auto",
        label="Device",
        tooltip="Where the model computes. auto takes a GPU when one works; the first job finds the devices.",
        choices=DEVICES,
    )
    precision: str = knob(
        "fp32",
        label="Precision",
        tooltip="fp32: exact. bf16: faster and half the memory on recent GPUs, with small differences.",
        choices=PRECISIONS,
    )
    threads: int = knob(
        0,
        label="CPU threads",
        tooltip="Threads of the CPU. 0 leaves one core to the window. Results can differ in the last digit.",
        min=0,
        max=MOST_THREADS,
        step=1,
    )

    _path = None  # type: Path | None  # no field: whoever hears of a new header finds its path here, silently
    events: ClassVar[SignalGroupDescriptor] = SignalGroupDescriptor()

    def open(self, name_or_path: str | Path) -> Header:
        """Choose a checkpoint after its header was read and checked; on an error the earlier choice stays.

        Raises
        ------
        CheckpointError
            If there is no such model, or its file is no valid checkpoint.
        """
        path = resolve(name_or_path)
        header = read_header(path)
        self._path = path
        self.header = header
        self.name = str(name_or_path)
        return header

    @property
    def path(self) -> Path | None:
        """File of the chosen checkpoint, as it was opened: it may be gone meanwhile; None when none is open."""
        return self._path

    @property
    def is_bundled(self) -> bool:
        """True for a model that comes with the package."""
        return self.name in available()

    @property
    def can_generate(self) -> bool:
        """False for a checkpoint of stage 1 alone, which reconstructs only."""
        return self.header is not None and self.header.config.denoiser is not None

    @property
    def takes_camera(self) -> bool:
        """True when the model returns noise-free volumes, which a camera can record."""
        return self.header is not None and self.header.config.target == "clean"

    def conditions(self) -> dict[str, tuple[float, float] | tuple[str, ...]]:
        """What may be asked of the model: name to trained range, and the organisations; see `allowed_conditions`."""
        return {} if self.header is None else allowed_conditions(self.header.config)

    def spec(self) -> ModelSpec:
        """Return what the inference thread needs to load the model."""
        return ModelSpec(self.name, self.device, self.precision, self.threads)  # type: ignore[arg-type]

    def load_arguments(self) -> dict[str, Any]:
        """Return the arguments of `napari_vqldm.load` that open this model."""
        return {"name_or_path": self.name, "device": self.device}
