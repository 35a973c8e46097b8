"""One end of a way: a layer, or a seed, with its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_vqldm.pictures import Gray
from napari_vqldm.plugin.layers import describe
from napari_vqldm.plugin.state.interpolate import End
from napari_vqldm.plugin.widgets import LayerPicker, SeedBox
from napari_vqldm.plugin.widgets.thumbnails import Thumbnail
from napari_vqldm.volume import Int3

if TYPE_CHECKING:
    from napari.layers import Layer

LAYER, SEED = 0, 1  # of the choice
_WATCHED = ("data", "scale", "units", "axis_labels")  # what changes a chosen end without choosing another


class EndBox(QWidget):
    """Choose one end.

    Parameters
    ----------
    word : str
        ``A`` or ``B``.
    viewer : napari.Viewer
        Whose layers.
    seed : int
        Shown first.
    parent : QWidget, optional
        Of the box.
    """

    changed = Signal()  # another end, or the same layer with other content
    renamed = Signal()  # the same end, called differently

    def __init__(self, word: str, viewer: Any, seed: int, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.word = word
        suffix = word.lower()
        self.setObjectName(f"vqldm-end-{suffix}")
        self.picture = Thumbnail(f"vqldm-thumbnail-{suffix}")
        self.picture.setToolTip(f"End {word}, maximum projection along z")
        self.choice = QComboBox()
        self.choice.setObjectName(f"vqldm-end-choice-{suffix}")
        self.choice.addItems(["Layer", "Seed"])
        self.choice.setToolTip("Layer: a volume of the viewer, encoded by the model. Seed: a volume that it samples.")
        self.picker = LayerPicker(viewer)
        self.picker.setObjectName(f"vqldm-end-layer-{suffix}")
        self.seed_box = SeedBox(seed)
        self.seed_box.setObjectName(f"vqldm-end-seed-{suffix}")
        self.seed_box.edit.setObjectName(f"vqldm-seed-{suffix}")
        self.seed_box.keep_box.setChecked(True)  # an end stays what it is until it is rolled
        self.seed_box.keep_box.hide()
        self.time = _index_box(f"vqldm-end-time-{suffix}", "Time point", "Which time point of the layer, from 0")
        self.channel = _index_box(f"vqldm-end-channel-{suffix}", "Channel", "Which channel of the layer, from 0")
        self._watched: Layer | None = None
        self._lay_out()
        self.choice.currentIndexChanged.connect(self._on_choice)
        self.picker.layer_changed.connect(self._on_layer)
        self.picker.currentIndexChanged.connect(self._on_renamed)
        self.seed_box.seed_changed.connect(self._on_seed)
        self.time.valueChanged.connect(self._on_index)
        self.channel.valueChanged.connect(self._on_index)
        self._on_layer(self.picker.layer)

    @property
    def layer(self) -> Layer | None:
        """The chosen layer; None for a seed."""
        return None if self.is_seed else self.picker.layer

    @property
    def is_seed(self) -> bool:
        """True when the end is a seed."""
        return self.choice.currentIndex() == SEED

    def end(self) -> End:
        """Return what is chosen."""
        if self.is_seed:
            return End(is_seed=True, seed=self.seed_box.seed)
        layer = self.picker.layer
        if layer is None:
            return End()
        info = describe(layer)
        if not info.is_usable:
            return End(name=info.name, reason=info.reason)
        return End(
            name=info.name,
            shape=_three(tuple(info.shape[axis] for axis in info.spatial_axes)),
            voxel_size_um=info.voxel_size_um,
            time=self.time.value() if info.time_axis is not None else None,
            channel=self.channel.value() if info.channel_axis is not None else None,
        )

    def exchange(self, other: EndBox) -> None:
        """Give each the choice of the other; each tells it once."""
        mine, theirs = self._content(), other._content()
        self._take(theirs)
        other._take(mine)
        for box in (self, other):
            box.changed.emit()

    def show_picture(self, gray: Gray | None) -> None:
        """Show the thumbnail, or nothing."""
        self.picture.show_gray(gray)

    def close_box(self) -> None:
        """Let go of viewer and layers."""
        self._watch(None)
        self.picker.disconnect_viewer()

    def _content(self) -> tuple[int, Layer | None, int, int, int, Gray | None]:
        index, layer, seed = self.choice.currentIndex(), self.picker.layer, self.seed_box.seed
        return index, layer, seed, self.time.value(), self.channel.value(), self.picture.gray

    def _take(self, content: tuple[int, Layer | None, int, int, int, Gray | None]) -> None:
        index, layer, seed, time, channel, gray = content
        blockers = [QSignalBlocker(self)]
        self.choice.setCurrentIndex(index)
        if layer is not None:
            self.picker.choose(layer)
        self.seed_box.seed = seed
        self.time.setValue(time)
        self.channel.setValue(channel)
        self.show_picture(gray)
        del blockers

    def _lay_out(self) -> None:
        name = QLabel(self.word)
        name.setBuddy(self.choice)
        first = QHBoxLayout()
        first.addWidget(name)
        first.addWidget(self.choice, 1)
        indices = QHBoxLayout()
        indices.addWidget(self.time)
        indices.addWidget(self.channel)
        column = QVBoxLayout()
        column.addLayout(first)
        column.addWidget(self.picker)
        column.addWidget(self.seed_box)
        column.addLayout(indices)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.picture)
        row.addLayout(column, 1)
        self.seed_box.hide()

    def _on_choice(self, index: int) -> None:
        self.picker.setVisible(index == LAYER)
        self.seed_box.setVisible(index == SEED)
        self._show_indices()
        self.changed.emit()

    def _on_layer(self, layer: Layer | None) -> None:
        self._watch(layer)
        self._show_indices()
        if not self.is_seed:
            self.changed.emit()

    def _on_seed(self, _seed: object) -> None:
        if self.is_seed:
            self.changed.emit()

    def _on_index(self, _value: int) -> None:
        if not self.is_seed:
            self.changed.emit()

    def _on_content(self, _event: object = None) -> None:
        self._on_layer(self.picker.layer)

    def _on_renamed(self, _event: object = None) -> None:
        self.renamed.emit()

    def _show_indices(self) -> None:
        """Show time and channel where the layer has several."""
        layer = self.layer
        info = describe(layer) if layer is not None else None
        for box, count in (
            (self.time, info.num_times if info else 1),
            (self.channel, info.num_channels if info else 1),
        ):
            with QSignalBlocker(box):
                box.setMaximum(max(count - 1, 0))
            box.setVisible(count > 1)

    def _watch(self, layer: Layer | None) -> None:
        """Follow what changes the content of the chosen layer."""
        if layer is self._watched:
            return
        if self._watched is not None:
            for name in _WATCHED:
                _disconnect(getattr(self._watched.events, name, None), self._on_content)
            _disconnect(self._watched.events.name, self._on_renamed)
        self._watched = layer
        if layer is not None:
            for name in _WATCHED:
                if (emitter := getattr(layer.events, name, None)) is not None:
                    emitter.connect(self._on_content)
            layer.events.name.connect(self._on_renamed)


def _index_box(name: str, label: str, tip: str) -> QSpinBox:
    box = QSpinBox()
    box.setObjectName(name)
    box.setPrefix(f"{label} ")
    box.setToolTip(tip)
    box.hide()
    return box


def _three(shape: tuple[int, ...]) -> Int3:
    z, y, x = shape
    return z, y, x


def _disconnect(emitter: Any, callback: Any) -> None:
    """Disconnect; one that is gone already is fine."""
    try:
        if emitter is not None:
            emitter.disconnect(callback)
    except (ValueError, RuntimeError):
        pass
