"""What all tabs share: viewer, inference thread, chosen model, undo, and one place for messages."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_vqldm.errors import VqldmError
from napari_vqldm.files.provenance import is_series
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.inference.cache import ByteCache
from napari_vqldm.plugin.inference.engine import Engine
from napari_vqldm.plugin.inference.failures import failure_of
from napari_vqldm.plugin.inference.jobs import Failure, Job, Priority
from napari_vqldm.plugin.inference.runner import Runner
from napari_vqldm.plugin.inference.timing import Timing
from napari_vqldm.plugin.layers import LayerSource, describe, provenance_of, shown_channel, shown_time, snapshot
from napari_vqldm.plugin.layers.undo import Undo
from napari_vqldm.plugin.settings import Preferences, read_settings
from napari_vqldm.plugin.state.model import ModelState
from napari_vqldm.recipe import FileInput, command_line, python_script

if TYPE_CHECKING:
    from napari.layers import Layer

MIB = 2**20


class Desk(QObject):
    """The shared half of a dock.

    Attributes
    ----------
    viewer : napari.Viewer
        The viewer that the dock belongs to.
    model : ModelState
        Chosen checkpoint, device, precision, threads.
    runner : Runner
        Runs jobs on the inference thread.
    timing : Timing
        Self-tests: the button's, and the one in the background.
    undo : Undo
        Layers that we added.
    frames : ByteCache
        Decoded frames, within the cache budget of the settings.
    preferences : Preferences
        Those of the plugin: a change counts at once, in place of what was chosen in the dock.
    inputs : dict
        Files behind the inputs of jobs, by the fingerprint of their voxels: what "Copy as Python" reads.
    """

    failed = Signal(object)  # Failure, for the panel of the dock
    noticed = Signal(str)  # one plain line, for the status row
    asked = Signal()  # the user started something: what went wrong before is over
    model_changed = Signal()  # another checkpoint, device, precision or number of threads

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        settings = read_settings()
        self._viewer = weakref.ref(bare(viewer))
        self.model = ModelState(device=settings.device, precision=settings.precision, threads=settings.threads)
        self.runner = Runner(parent=self)
        self.timing = Timing(self.runner, self.model.spec, self)
        self.undo = Undo(bare(viewer))
        self.frames = ByteCache(settings.cache_mib * MIB)
        self.preferences = Preferences(self._on_preference)
        self.inputs: dict[str, FileInput] = {}
        self._checkpoints: dict[str, str] = {}
        self.model.events.connect(self._on_model_event)
        self.runner.failed.connect(self._on_failed)

    @property
    def viewer(self) -> Any:
        """The viewer; held weakly, because a dock must not keep a closed viewer alive."""
        viewer = self._viewer()
        if viewer is None:
            raise VqldmError("expected an open viewer, got a closed one: open the dock again from the Plugins menu")
        return viewer

    def run(
        self,
        title: str,
        work: Callable[[Engine], Iterator[object]],
        *,
        on_step: Callable[[Any], None] | None = None,
        on_done: Callable[[Any], None] | None = None,
        on_cancelled: Callable[[], None] | None = None,
        on_failure: Callable[[Failure], None] | None = None,
        priority: Priority = Priority.BATCH,
        key: str | None = None,
        show_progress: bool = True,
    ) -> Job:
        """Run work on the inference thread; callbacks come back on this thread. Failures appear in the panel."""
        if priority is Priority.BATCH:
            self.asked.emit()
        return self.runner.run(
            title,
            work,
            on_step=on_step,
            on_done=on_done,
            on_cancelled=on_cancelled,
            on_failure=on_failure,
            priority=priority,
            key=key,
            show_progress=show_progress,
        )

    def show_error(self, error: BaseException) -> None:
        """Show an error that happened on this thread, with its remedy."""
        self.failed.emit(failure_of(error))

    def guarded(self, action: Callable[[], Any]) -> Any:
        """Run a short action; a refusal of ours is shown in the panel, and None returned."""
        try:
            return action()
        except VqldmError as error:
            self.show_error(error)
            return None

    def remember_input(self, voxels_sha256: str, source: FileInput | None) -> None:
        """Note in which file the input of a job lies."""
        if source is not None:
            self.inputs[voxels_sha256] = source

    def models(self) -> Mapping[str, str]:
        """Return the checkpoints opened so far that are still there, by fingerprint; bundled ones go by name."""
        return {sha: path for sha, path in self._checkpoints.items() if Path(path).is_file()}

    def record_of(self, layer: Layer) -> Mapping[str, Any]:
        """Return the record of what a layer shows: of a series, that of the frame in view.

        Raises
        ------
        VqldmError
            If the layer carries no record of ours.
        """
        record: Mapping[str, Any] | None = provenance_of(layer)
        if is_series(record):
            record = self.snapshot_shown(layer).provenance
        if not record:
            raise VqldmError(
                f"layer {layer.name!r} carries no record of napari-vqldm: choose a layer that this dock made, or a "
                "file that it wrote"
            )
        return record

    def snapshot_shown(self, layer: Layer) -> LayerSource:
        """Return what a layer shows, to be read on the inference thread: time point and channel in view."""
        info = describe(layer)
        time = shown_time(self.viewer, layer, info) if info.num_times > 1 else None
        channel = shown_channel(self.viewer, layer, info) if info.num_channels > 1 else None
        return snapshot(layer, time=time, channel=channel)

    def python_of(self, layer: Layer, out: str | Path | None = None) -> str:
        """Return the Python script that computes a layer of ours again.

        Raises
        ------
        VqldmError
            If the layer carries no record, or an input lies in no file.
        """
        return python_script(self.record_of(layer), files=self.inputs, models=self.models(), out=_text(out))

    def command_of(self, layer: Layer, out: str | Path | None = None) -> str:
        """Return the command line that computes a layer of ours again; errors as `python_of`."""
        return command_line(self.record_of(layer), files=self.inputs, models=self.models(), out=_text(out))

    def added(self, title: str, layers: Sequence[Layer]) -> None:
        """Note layers that a job added, so that they can be taken back together."""
        self.undo.added(title, layers)

    def free_memory(self) -> None:
        """Drop the loaded model, decoded frames and what the device keeps in reserve."""
        self.frames.clear()
        self.undo.forget_taken_back()

        def work(engine: Engine) -> Iterator[object]:
            engine.free()
            yield from ()

        self.runner.run(
            "Free memory",
            work,
            on_done=lambda _: self.noticed.emit("Memory is free again; the model is loaded when it is needed."),
            show_progress=False,
        )

    def close(self) -> None:
        """Cancel all work, stop the inference thread, let go of layers."""
        self.preferences.close()
        self.model.events.disconnect(self._on_model_event)
        self.timing.close()
        self.runner.close()
        self.undo.clear()
        self.frames.clear()

    def _on_model_event(self, *_: object) -> None:
        header, path = self.model.header, self.model.path
        if header is not None and path is not None and not self.model.is_bundled:
            self._checkpoints[header.card.weights_sha256] = str(path)
        self.model_changed.emit()

    def _on_preference(self, name: str, value: Any) -> None:
        if name == "cache_mib":
            self.frames.budget_bytes = value * MIB
        else:
            setattr(self.model, name, value)

    def _on_failed(self, _job: object, failure: Failure) -> None:
        self.failed.emit(failure)


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
