"""Runs the counts of the Codebook tab, shows them as they come, and knows what they were made of."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import LayerSource
from napari_vqldm.plugin.tabs.codebook.channel_work import (
    Channels,
    ChannelsCounted,
    channels_of_folder_work,
    channels_of_layers_work,
)
from napari_vqldm.plugin.tabs.codebook.export import Counting
from napari_vqldm.plugin.tabs.codebook.shown_maps import ShownMaps
from napari_vqldm.plugin.tabs.codebook.state import CodebookState
from napari_vqldm.plugin.tabs.codebook.work import Counted, Work, count_folder_work, count_layers_work

if TYPE_CHECKING:
    from napari_vqldm.plugin.inference.jobs import Job
    from napari_vqldm.recipe import FileInput


class Counter(QObject):
    """Counts codes of a `vq-ldm`, or channels of an `ldm`: whatever the open model has.

    A count that is cancelled or fails on its way leaves what it counted so far.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    state : CodebookState
        Shows counts of codes.
    maps : ShownMaps
        Shows code maps of layers.

    Attributes
    ----------
    channels : Channels or None
        What was counted of an ``ldm``.
    counting : Counting or None
        What counts it again; None before anything was counted.
    """

    changed = Signal()  # a count began, came on, or ended

    def __init__(self, desk: Desk, state: CodebookState, maps: ShownMaps, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.channels: Channels | None = None
        self.counting: Counting | None = None
        self._desk, self._state, self._maps = desk, state, maps
        self._job: Job | None = None
        self._token: object = None  # of the job whose steps are shown
        self._weights = ""  # of the model that the job counts with
        self._files: list[FileInput | None] = []
        self._title = ""
        self._added: list[weakref.ref[Any]] = []  # maps of the count that goes on: they are taken back together

    @property
    def is_running(self) -> bool:
        """Whether a count is under way, or waits."""
        return self._job is not None

    def count_layers(self, layers: Sequence[Any]) -> None:
        """Count over layers, of a series at the time point in view; the map of each is added."""
        sources = self._desk.guarded(lambda: [self._desk.snapshot_shown(layer) for layer in layers])
        if not sources:
            return
        title = f"Count {sources[0].name}" if len(sources) == 1 else f"Count {len(sources)} layers"
        spec = self._desk.model.spec()
        make = channels_of_layers_work if self._is_continuous else count_layers_work
        self._run(title, make(spec, sources), sources, [weakref.ref(bare(layer)) for layer in layers], None)

    def count_folder(self, folder: Path) -> None:
        """Count over the files of a folder."""
        spec = self._desk.model.spec()
        make = channels_of_folder_work if self._is_continuous else count_folder_work
        self._run(f"Count {folder.name or folder}", make(spec, folder), [], [], folder)

    def follow_model(self) -> None:
        """Drop what belongs to another model than the one that is open now."""
        header = self._desk.model.header
        weights = "" if header is None else header.card.weights_sha256
        if self._job is not None and self._weights != weights:
            self.stop()
        found = self._state.found
        if found is not None and found.weights_sha256 != weights:
            self._state.show(None)  # first: nothing stays lit in layers that no longer follow
            self._maps.close()
            self.counting = None
        if self.channels is not None and self.channels.weights_sha256 != weights:
            self.channels = self.counting = None
        self.changed.emit()

    def stop(self) -> None:
        """Cancel a count; what comes of it later is not shown."""
        if self._job is not None:
            job, self._job, self._token = self._job, None, None
            job.cancel()
            self._note_layers()

    # --- inside -------------------------------------------------------------------------------------------------------

    @property
    def _is_continuous(self) -> bool:
        header = self._desk.model.header
        return header is not None and header.config.family == "ldm"

    def _run(
        self,
        title: str,
        count: Work,
        sources: Sequence[LayerSource],
        layers: Sequence[weakref.ref[Any]],
        folder: Path | None,
    ) -> None:
        model, token = self._desk.model, object()
        called = model.name if model.is_bundled or model.path is None else str(model.path)
        self._weights = "" if model.header is None else model.header.card.weights_sha256
        self._files, self._title = [], title
        self._token = token

        def on_step(step: object) -> None:
            if self._token is not token or self._job is None:
                return
            if isinstance(step, Counted | ChannelsCounted):
                if isinstance(step, Counted):
                    self._show_codes(step, sources, layers)
                else:
                    self.channels = step.channels
                    self._files = [step.file]
                self.counting = Counting(called, folder, tuple(self._files) if folder is None else ())
                self.changed.emit()

        def ended(*_: object) -> None:
            if self._token is token:
                self._ended()

        self._job = self._desk.run(title, count, on_step=on_step, on_done=ended, on_cancelled=ended, on_failure=ended)
        self.changed.emit()

    def _show_codes(self, step: Counted, sources: Sequence[LayerSource], layers: Sequence[weakref.ref[Any]]) -> None:
        """Show counts, and the map of the layer that was counted last."""
        if step.code_map is not None:
            self._files.append(step.file)
        self._state.show(step.found)
        if step.code_map is not None:
            added = self._maps.add(step.code_map, sources[step.number], layers[step.number])
            if added is not None:
                self._added.append(weakref.ref(added))

    def _ended(self) -> None:
        """Say so where a count ended before its end, and what was left out."""
        self._job = None
        self._note_layers()
        found, channels = self._state.found, self.channels
        if found is not None and not found.is_complete:
            found = replace(found, what=_stopped(found.what, found.num_volumes), is_complete=True)
            self._state.show(found)
        if channels is not None and not channels.is_complete:
            self.channels = replace(channels, what=_stopped(channels.what, channels.num_volumes), is_complete=True)
        self.changed.emit()

    def _note_layers(self) -> None:
        """Let the maps of one count be taken back in one go."""
        layers, self._added = [layer for ref in self._added if (layer := ref()) is not None], []
        self._desk.added(self._title, layers)


def _stopped(what: str, count: int) -> str:
    return f"{what} (stopped after {count} volume{'' if count == 1 else 's'})"


def problems_text(problems: Sequence[str], most: int) -> str:
    """Say what was left out: ``most`` of it at most, and how many more there are."""
    if not problems:
        return ""
    more = [f"and {len(problems) - most} more"] if len(problems) > most else []
    return "\n".join([f"Left out, {len(problems)}:", *problems[:most], *more])
