"""Owner of the model, on the inference thread: loads what a job asks for, keeps one model, says what it falls back to.

PyTorch is imported by the first job, so that the dock opens without it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_vqldm.errors import CheckpointError
from napari_vqldm.memory import empty_device_caches
from napari_vqldm.plugin.inference.devices import (
    DeviceInfo,
    Precision,
    choose_device,
    choose_precision,
    default_threads,
    list_devices,
    may_have_gpu,
)
from napari_vqldm.plugin.inference.jobs import Note
from napari_vqldm.plugin.inference.thread import BaseEngine
from napari_vqldm.zoo import resolve

if TYPE_CHECKING:
    from napari_vqldm.checkpoint import Model
    from napari_vqldm.preview import LinearDecoder


@dataclass(frozen=True)
class ModelSpec:
    """Which model a job needs, and how it should compute.

    Attributes
    ----------
    path : str or Path
        Bundled name or checkpoint file, as `napari_vqldm.load` takes it.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
    precision : str
        ``fp32`` or ``bf16``.
    threads : int
        Threads of the CPU; 0: see `default_threads`.
    """

    path: str | Path
    device: str = "auto"
    precision: Precision = "fp32"
    threads: int = 0


@dataclass(frozen=True)
class _FileState:
    """A file and what changes when it is written again."""

    path: Path
    modified_ns: int
    size: int


class Engine(BaseEngine):
    """Owner of the loaded model. Make and use it on the inference thread alone.

    Attributes
    ----------
    device : str
        Device of the last `use`.
    precision : str
        Precision that works there: pass it to the verbs, read it right after `use`.
    """

    def __init__(self) -> None:
        self.device = "cpu"
        self.precision: Precision = "fp32"
        self._model: Model | None = None
        self._file: _FileState | None = None
        self._is_loss_told = False
        self._decoder: tuple[str, LinearDecoder] | None = None
        self._choices: dict[tuple[str, Precision], tuple[str, Precision]] = {}
        self._self_tests: dict[str, dict[str, Any]] = {}

    def use(self, spec: ModelSpec) -> Generator[Note, None, Model]:
        """Make a model ready: ``model = yield from engine.use(spec)``.

        Parameters
        ----------
        spec : ModelSpec
            What is wanted. The loaded model is kept while file and device stay the same.

        Yields
        ------
        Note
            What takes time (PyTorch, the model) and each fallback to another device or precision, once.

        Returns
        -------
        Model
            In evaluation mode on `device`.

        Raises
        ------
        CheckpointError
            If no model is chosen, or its file is missing, newer than this version, or not valid.
        ConfigError
            If device or precision have no such name.
        """
        if "torch" not in sys.modules:
            yield Note("Loading PyTorch...")
        import torch

        threads = spec.threads or default_threads()
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        yield from self._choose(spec)
        file, problem = _look_at(spec.path)
        if self._model is not None and str(self._model.device) == self.device:
            if file is not None and file == self._file:
                return self._model
            if file is None and self._is_loaded(spec.path):
                if not self._is_loss_told:
                    self._is_loss_told = True
                    yield Note(f"{Path(spec.path).name} is gone from its folder: the loaded model stays in use")
                return self._model
        if file is None:
            raise CheckpointError(problem)
        is_changed = self._file is not None and file.path == self._file.path and file != self._file
        yield Note(
            f"{file.path.name} has changed: loading it again..." if is_changed else f"Loading {file.path.stem}..."
        )
        return self._load(file)

    def has_loaded(self, spec: ModelSpec) -> bool:
        """Tell whether `use` would return at once: questions that nobody is to wait for load nothing."""
        device, _ = self._choices.get((spec.device, spec.precision), (None, None))
        if self._model is None or str(self._model.device) != device:
            return False
        file, _ = _look_at(spec.path)
        return self._is_loaded(spec.path) if file is None else file == self._file

    @property
    def loaded(self) -> Model | None:
        """The model that is in memory, whatever a job asks for; None without one."""
        return self._model

    def likely_device(self, spec: ModelSpec) -> str | None:
        """Return the device that `use` is going to take, None where only PyTorch can tell; it is not imported."""
        if (spec.device, spec.precision) in self._choices:
            return self._choices[spec.device, spec.precision][0]
        return "cpu" if spec.device == "cpu" or (spec.device == "auto" and not may_have_gpu()) else None

    def preview_decoder(self, model: Model | None = None) -> LinearDecoder:
        """Return the cheap decoder of a model, fitted at the first call (about a second).

        Parameters
        ----------
        model : Model, optional
            None: the loaded one.

        Raises
        ------
        CheckpointError
            If no model is loaded.
        """
        model = model or self._model
        if model is None:
            raise CheckpointError("no model is loaded: choose one on the Model tab")
        from napari_vqldm.preview import fit_linear_decoder

        key = f"{model.weights_sha256}/{model.device}"
        if self._decoder is None or self._decoder[0] != key:
            self._decoder = key, fit_linear_decoder(model, rate=False)
        return self._decoder[1]

    def devices(self) -> tuple[DeviceInfo, ...]:
        """Return the devices of this machine, or none as long as no job has brought PyTorch."""
        return list_devices() if "torch" in sys.modules else ()

    def timing_key(self, model: Model, precision: Precision | None = None) -> str:
        """Name what the speed of a loaded model depends on, as it computes now; see `timing_key_of`."""
        import torch

        device, threads = str(model.device), torch.get_num_threads()
        return timing_key_of(model.weights_sha256, device, threads, precision or self.precision)

    def remember(self, self_tests: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep results of self-tests by `timing_key`: new ones, or those of an earlier session."""
        self._self_tests.update({key: dict(result) for key, result in self_tests.items()})

    @property
    def self_tests(self) -> dict[str, dict[str, Any]]:
        """All results that were remembered, to be saved as JSON."""
        return {key: dict(result) for key, result in self._self_tests.items()}

    def self_test_of(self, model: Model, precision: Precision | None = None) -> dict[str, Any] | None:
        """Return the remembered result for a model as it computes now, or None."""
        return self._self_tests.get(self.timing_key(model, precision))

    def free(self) -> None:
        """Drop the model and its preview decoder, and give back what the device keeps in reserve."""
        self._model = None
        self._file = None
        self._decoder = None
        empty_device_caches()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Give a batch job its device, precision and threads back: the bits of a result depend on them."""
        torch = sys.modules.get("torch")
        threads = torch.get_num_threads() if torch is not None else 0
        device, precision = self.device, self.precision
        try:
            yield
        finally:
            self.device, self.precision = device, precision
            if torch is not None and torch.get_num_threads() != threads:
                torch.set_num_threads(threads)

    def _choose(self, spec: ModelSpec) -> Iterator[Note]:
        """Set device and precision; a request that was tried before is answered from memory."""
        wanted = (spec.device, spec.precision)
        if wanted not in self._choices:
            device, device_note = choose_device(spec.device)
            precision, precision_note = choose_precision(device, spec.precision)
            self._choices[wanted] = device, precision
            yield from (Note(text) for text in (device_note, precision_note) if text)
        self.device, self.precision = self._choices[wanted]

    def _is_loaded(self, path: str | Path) -> bool:
        """Tell whether the loaded model came from ``path``."""
        return self._file is not None and self._file.path == Path(path).expanduser().resolve()

    def _load(self, file: _FileState) -> Model:
        """Load a checkpoint; the earlier model is dropped when the new one is known to be good."""
        from napari_vqldm.checkpoint import load_checkpoint

        model = load_checkpoint(file.path, self.device)
        self.free()
        self._model, self._file, self._is_loss_told = model, file, False
        return model


def timing_key_of(weights_sha256: str, device: str, threads: int, precision: Precision) -> str:
    """Name what the speed of a model depends on: weights, device, threads of the CPU, precision."""
    return f"{weights_sha256}/{device}/{threads}/{precision}"


def _look_at(path: str | Path) -> tuple[_FileState | None, str]:
    """Return the file behind a name or path, or None and why there is none."""
    if not str(path):
        return None, "no model is open: choose one on the Model tab"
    try:
        resolved = resolve(path).resolve()
        status = resolved.stat()
    except CheckpointError as error:
        return None, str(error)
    except OSError as error:
        return None, f"{path}: cannot read the checkpoint: {error.strerror}: choose another model"
    return _FileState(resolved, status.st_mtime_ns, status.st_size), ""
