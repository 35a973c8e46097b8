"""The Codebook tab: which codes a model uses, where they stand and what they paint; of an `ldm`, what channels say."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from napari_vqldm.errors import ConfigError, RecipeError, VolumeError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.layers import KEY
from napari_vqldm.plugin.tabs.codebook import export
from napari_vqldm.plugin.tabs.codebook.cell_layers import add_channels, add_quantization
from napari_vqldm.plugin.tabs.codebook.channel_work import ChannelImages, channel_images_work
from napari_vqldm.plugin.tabs.codebook.channels_box import ChannelsBox
from napari_vqldm.plugin.tabs.codebook.codes_box import CodesBox
from napari_vqldm.plugin.tabs.codebook.counter import Counter, problems_text
from napari_vqldm.plugin.tabs.codebook.picking import Picker
from napari_vqldm.plugin.tabs.codebook.shown_maps import ShownMaps
from napari_vqldm.plugin.tabs.codebook.source_box import SourceBox
from napari_vqldm.plugin.tabs.codebook.state import CodebookState
from napari_vqldm.plugin.tabs.codebook.tools_box import NOTHING_COUNTED, ToolsBox
from napari_vqldm.plugin.tabs.codebook.work import Work, quantization_work
from napari_vqldm.plugin.tabs.measure.tab import why_not
from napari_vqldm.plugin.widgets import HelpLabel
from napari_vqldm.plugin.widgets.fold import Fold

if TYPE_CHECKING:
    from napari_vqldm.plugin.layers import LayerSource

LEAD = "Count to see which of its codes {} uses, where they stand, and what each of them paints."
NO_VOLUME = "no layer holds a volume that was not made here: open or generate one"
TABLES, PICTURES = "Table (*.csv)", "Picture (*.png)"


class CodebookTab(QWidget):
    """Look inside the open model.

    Parameters
    ----------
    desk : Desk
        Of the dock.
    """

    title = "Codebook"

    def __init__(self, desk: Desk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("vqldm-codebook")
        self.desk = desk
        self.state = CodebookState(self)
        self.maps = ShownMaps(desk.viewer, self.state)
        self.counter = Counter(desk, self.state, self.maps, self)
        self.picker = Picker(desk, lambda: self.maps.maps, self.state)
        self._made: weakref.WeakSet[Any] = weakref.WeakSet()  # layers, no volumes of the user
        self._is_closed = False
        self._build()
        self.source.asked.connect(self._on_asked)
        self.source.changed.connect(self._show_state)
        self.counter.changed.connect(self._on_count)
        desk.model_changed.connect(self._on_model)
        desk.undo.changed.connect(self.codes.show_places)  # layers came or went, by the user too
        self._on_model()

    # --- for the dock and for scripts ---------------------------------------------------------------------------------

    def count(self, layer: Any = None) -> None:
        """Count over a layer, by default the chosen one; its code map is added as a layer."""
        self.source.choose("layer")
        if layer is not None:
            self.source.picker.choose(layer)
            if self.source.picker.layer is not bare(layer):
                self.desk.show_error(VolumeError(why_not(layer) or f"{layer.name!r} is in another viewer"))
                return
        self._on_asked()

    def count_all(self) -> None:
        """Count over all layers that hold a volume."""
        self.source.choose("all")
        self._on_asked()

    def count_folder(self, path: str | Path) -> None:
        """Count over the files of a folder, one in memory at a time."""
        self.source.choose("folder", path)
        self._on_asked()

    def choose(self, code: int | None) -> None:
        """Choose a code that is looked at closely; None for none.

        Raises
        ------
        ConfigError
            If nothing is counted, or there is no such code.
        """
        found = self.state.found
        if code is not None and (found is None or not 0 <= code < found.num_codes):
            raise ConfigError(NOTHING_COUNTED if found is None else f"expected a code below {found.num_codes}: {code}")
        self.state.choose(code)

    def show_quantization(self) -> None:
        """Add what quantization of the chosen layer costs, as layers."""

        def add(source: LayerSource, error: Any) -> list[Any]:
            return add_quantization(self.desk.viewer, error, source)

        self._make_layers("Quantization error", quantization_work, add)

    def show_channels(self) -> None:
        """Add every channel of the latent of the chosen layer, as layers."""

        def add(source: LayerSource, found: ChannelImages) -> list[Any]:
            return add_channels(self.desk.viewer, found.images, source, found.latent)

        self._make_layers("Latent channels", channel_images_work, add)

    def save_csv(self, path: str | Path, *, force: bool = False) -> None:
        """Write one line for every code, or for every channel of an ``ldm``.

        Raises
        ------
        ConfigError
            If nothing is counted.
        FileError
            If the file exists and ``force`` is not set, or it cannot be written.
        """
        if self._is_continuous and self.counter.channels is not None:
            export.save_channels_csv(path, self.counter.channels, force=force)
        elif self.state.found is not None:
            export.save_usage_csv(path, self.state.found, force=force)
        else:
            raise ConfigError(NOTHING_COUNTED)
        self.desk.noticed.emit(f"The table is in {path}.")

    def save_png(self, path: str | Path, *, force: bool = False) -> None:
        """Write a picture of the use of the codes and of the atoms measured so far; errors as `save_csv`."""
        found = self.state.found
        if found is None:
            raise ConfigError(NOTHING_COUNTED)
        counts = found.usage.filament.counts  # the sheet of atoms says so
        atoms = sorted(self.codes.maker.atoms.values(), key=lambda atom: (-counts[atom.code], atom.code))
        export.save_png(path, found, atoms, force=force)
        self.desk.noticed.emit(f"The picture is in {path}.")

    def close_tab(self) -> None:
        """Let go of viewer and layers; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self.desk.model_changed.disconnect(self._on_model)
        self.desk.undo.changed.disconnect(self.codes.show_places)
        self.counter.stop()
        self.codes.close_box()
        self.picker.close()
        self.maps.close()
        self.source.picker.disconnect_viewer()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.source = SourceBox(self.desk.viewer)
        self.lead = HelpLabel(parent=self)
        self.lead.setObjectName("vqldm-codebook-lead")
        self.problems = HelpLabel(parent=self)
        self.problems.setObjectName("vqldm-codebook-problems")
        self.codes = CodesBox(self.desk, self.state, self.maps)
        self.channels = ChannelsBox()
        self.tools = ToolsBox(self._python, lambda: self._counting().command())
        self.tools.quantization_wanted.connect(self.show_quantization)
        self.tools.channels_wanted.connect(self.show_channels)
        self.tools.table_wanted.connect(lambda: self._ask_and_save(TABLES, "codes.csv", self.save_csv))
        self.tools.picture_wanted.connect(lambda: self._ask_and_save(PICTURES, "codes.png", self.save_png))
        self.tools.copy.failed.connect(self.desk.show_error)
        self.tools_fold = Fold(
            "Layers and files", "vqldm-codebook-tools-fold", self.tools, "What else can be made of it"
        )
        column = QVBoxLayout(self)
        for widget in (self.source, self.lead, self.codes, self.channels, self.problems, self.tools_fold):
            column.addWidget(widget)
        column.addStretch(1)
        self.tools_fold.set_open(True)

    @property
    def _is_continuous(self) -> bool:
        header = self.desk.model.header
        return header is not None and header.config.family == "ldm"

    def _on_asked(self) -> None:
        self._show_state()
        if not self.source.button.isEnabled() or self._is_closed:
            return
        folder, layer = self.source.folder, self.source.picker.layer
        if self.source.what == "folder" and folder is not None:
            self.counter.count_folder(folder)
        elif self.source.what == "all":
            layers = [bare(one) for one in bare(self.desk.viewer).layers]
            volumes = [one for one in layers if _is_volume(one) and one not in self._made]
            if volumes:
                self.counter.count_layers(volumes)
            else:
                self.desk.show_error(VolumeError(why_not(layer) or NO_VOLUME))
        elif layer is not None:
            self.counter.count_layers([layer])

    def _make_layers(self, title: str, make: Callable[..., Work], add: Callable[[LayerSource, Any], list[Any]]) -> None:
        """Compute something of the chosen layer, and add it."""
        layer = self.source.picker.layer
        if layer is None or self._tools_reason():
            return
        source = self.desk.guarded(lambda: self.desk.snapshot_shown(layer))
        if source is None:
            return
        title = f"{title} of {source.name}"

        def done(result: Any) -> None:
            if result is not None:
                layers = add(source, result)
                self._made.update(bare(layer) for layer in layers)
                self.desk.added(title, layers)

        self.desk.run(title, make(self.desk.model.spec(), source), on_done=done)

    def _ask_and_save(self, kind: str, name: str, save: Callable[..., None]) -> None:
        """Ask for a file, which the dialog lets the user replace, and write it."""
        path, _ = QFileDialog.getSaveFileName(self, "Save", name, kind)
        if path:
            suffix = Path(name).suffix
            whole = Path(path) if Path(path).suffix.lower() == suffix else Path(f"{path}{suffix}")
            self.desk.guarded(lambda: save(whole, force=whole == Path(path)))

    def _counting(self) -> export.Counting:
        if self.counter.counting is None:
            raise RecipeError(NOTHING_COUNTED)
        return self.counter.counting

    def _python(self) -> str:
        return self._counting().python(is_continuous=self._is_continuous)

    def _on_model(self) -> None:
        if not self._is_closed:
            self.counter.follow_model()

    def _on_count(self) -> None:
        """Show how far a count is."""
        header, channels = self.desk.model.header, self.counter.channels
        self.codes.setVisible(header is not None and not self._is_continuous)
        self.channels.setVisible(self._is_continuous)
        if self._is_continuous and header is not None:
            self.channels.show_channels(channels, header.config.autoencoder.latent_channels)
        shown = channels if self._is_continuous else self.state.found
        is_new = not self._is_continuous and shown is None
        self.lead.setText(LEAD.format(header.card.name) if header is not None and is_new else "")
        problems = () if shown is None else shown.problems
        self.problems.setText(problems_text(problems, 3))
        self.problems.setToolTip(problems_text(problems, 40))
        self.codes.show_places()
        self._show_state()

    def _tools_reason(self) -> str:
        """Why the chosen layer cannot be looked into; empty when it can."""
        has_model = self.desk.model.header is not None
        return self.source.why_not(has_model=has_model, what="layer")

    def _show_state(self) -> None:
        if self._is_closed:
            return
        has_model, layer = self.desk.model.header is not None, self.source.picker.layer
        self.source.show_state(has_model=has_model, is_running=self.counter.is_running)
        has_counts = (self.counter.channels if self._is_continuous else self.state.found) is not None
        self.tools_fold.setVisible(has_model)
        self.tools.show_state(
            layer_name="" if layer is None else layer.name,
            reason=self._tools_reason(),
            has_counts=has_counts,
            is_continuous=self._is_continuous,
        )


def _is_volume(layer: Any) -> bool:
    """Whether a layer can be counted, and is no image of cells or atom that this tab made."""
    record = layer.metadata.get(KEY) if hasattr(layer, "metadata") else None
    return not why_not(layer) and not (isinstance(record, dict) and "layer" in record)
