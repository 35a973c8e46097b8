"""Both ends of a way: two boxes with pictures, a button that exchanges them, a voxel size where one is missing."""

from __future__ import annotations

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_vqldm.errors import VqldmError
from napari_vqldm.pictures import Gray
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.inference.jobs import Priority
from napari_vqldm.plugin.layers import describe, snapshot, write_voxel_size
from napari_vqldm.plugin.state.interpolate import End, InterpolateState
from napari_vqldm.plugin.tabs.interpolate.end import EndBox
from napari_vqldm.plugin.tabs.interpolate.parts import EndRequest
from napari_vqldm.plugin.tabs.interpolate.work import picture_work
from napari_vqldm.plugin.widgets.voxel_size_fields import make_narrow
from napari_vqldm.volume import check_voxel_size

_LARGEST_PICTURE = 2**28  # bytes of a layer that is read for its thumbnail
_PICTURE_MS = 50
_UNKNOWN_UM = (1.0, 1.0, 1.0)  # a thumbnail needs no voxel size


class EndsBox(QWidget):
    """Choose both ends; the state follows.

    Parameters
    ----------
    desk : Desk
        Viewer, model, inference thread.
    state : InterpolateState
        Its ``a``, ``b`` and ``typed_voxel_size_um`` are set here.
    parent : QWidget, optional
        Of the box.
    """

    changed = Signal()  # another end, or other content of one
    renamed = Signal()  # the same ends, called differently

    def __init__(self, desk: Desk, state: InterpolateState, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.desk, self.state = desk, state
        self.output: object = None  # layer of the way, which is no end by itself
        self.a, self.b = EndBox("A", desk.viewer, 1), EndBox("B", desk.viewer, 2)
        self._choose_two_layers()
        self.swap_button = QPushButton("Swap")
        self.swap_button.setObjectName("vqldm-interpolate-swap")
        self.swap_button.setToolTip("Exchange A and B")
        self.swap_button.clicked.connect(lambda _checked=False: self.a.exchange(self.b))
        self.sizes = [_size_box(axis) for axis in "zyx"]
        self.size_row = QWidget()
        sizes = QHBoxLayout(self.size_row)
        sizes.setContentsMargins(0, 0, 0, 0)
        for widget in (QLabel("Voxel size (µm)"), *self.sizes):
            sizes.addWidget(widget)
        self._pictures = QTimer(self)
        self._pictures.setSingleShot(True)
        self._pictures.setInterval(_PICTURE_MS)
        self._pictures.timeout.connect(self._draw_pictures)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        for widget in (self.a, self.b, self.swap_button, self.size_row):
            column.addWidget(widget)
        for box in (self.a, self.b):
            box.changed.connect(self._on_changed)
            box.renamed.connect(self._on_renamed)
        for size in self.sizes:
            size.valueChanged.connect(self._on_size)
        bare(desk.viewer).layers.events.inserted.connect(self._on_inserted)
        self.read()

    def read(self) -> None:
        """Write the ends to the state."""
        self.state.a, self.state.b = self.a.end(), self.b.end()
        self.size_row.setVisible(self.state.needs_voxel_size)

    def requests(self) -> tuple[EndRequest, EndRequest]:
        """Return what the inference thread needs of both ends.

        A voxel size that was typed is written to the layers first: frames lie on their ends, and have their size.

        Raises
        ------
        VqldmError
            If an end cannot be used, or the typed voxel size is absurd.
        """
        self._write_size()
        return self._request_of(self.a, self.state.a), self._request_of(self.b, self.state.b)

    def draw_pictures(self) -> None:
        """Draw the thumbnails that are missing, in a moment."""
        self._pictures.start()

    def show_pictures(self, a: Gray | None, b: Gray | None) -> None:
        """Show thumbnails."""
        self.a.show_picture(a)
        self.b.show_picture(b)

    def close_box(self) -> None:
        """Let go of viewer and layers."""
        self._pictures.stop()
        self.a.close_box()
        self.b.close_box()
        try:
            bare(self.desk.viewer).layers.events.inserted.disconnect(self._on_inserted)
        except (VqldmError, ValueError, RuntimeError):
            pass  # the viewer is gone

    def _write_size(self) -> None:
        """Give the layers that state no voxel size the one that was typed."""
        bare_layers = [
            (layer, info)
            for box in (self.a, self.b)
            if (layer := box.layer) is not None and (info := describe(layer)).is_usable and info.voxel_size_um is None
        ]
        if bare_layers:
            size = check_voxel_size(self.state.typed_voxel_size_um)
            for layer, info in bare_layers:
                write_voxel_size(layer, info, size)

    def _request_of(self, box: EndBox, end: End) -> EndRequest:
        header = self.desk.model.header
        if end.is_seed:
            is_mixed = self.state.mode == "mixed" and header is not None
            return EndRequest(seed=self.state.seed_request(header) if is_mixed and header else {"seed": end.seed})
        if box.layer is None:
            raise VqldmError(f"expected a layer for end {box.word}, got none: choose one")
        size = self.state.voxel_size_of(end)
        return EndRequest(source=snapshot(box.layer, time=end.time, channel=end.channel, voxel_size_um=size))

    def _on_changed(self) -> None:
        self.read()
        for box in (self.a, self.b):
            box.show_picture(None)
        self.draw_pictures()
        self.changed.emit()

    def _on_renamed(self) -> None:
        self.read()
        self.renamed.emit()

    def _on_size(self, _value: float) -> None:
        z, y, x = (box.value() for box in self.sizes)
        self.state.typed_voxel_size_um = (z, y, x)

    def _on_inserted(self, _event: object = None) -> None:
        self._choose_two_layers()

    def _choose_two_layers(self) -> None:
        """Two boxes that both took the topmost layer: the second one takes the next."""
        if self.a.layer is None or self.a.layer is not self.b.layer or self.a.end().time is not None:
            return
        for layer in reversed(bare(self.desk.viewer).layers):
            if layer is not self.a.layer and layer is not self.output:
                self.b.picker.choose(layer)
                if self.b.layer is layer:
                    return

    def _draw_pictures(self) -> None:
        """Draw thumbnails of layers that are not too large to be read for that."""
        if not self.isVisible():
            return
        for box, end in ((self.a, self.state.a), (self.b, self.state.b)):
            if box.layer is not None and end.shape is not None and box.picture.gray is None:
                self._draw_picture(box, end)

    def _draw_picture(self, box: EndBox, end: End) -> None:
        layer = box.layer
        if layer is None or layer.data.nbytes > _LARGEST_PICTURE:
            return
        size = self.state.voxel_size_of(end) or _UNKNOWN_UM
        try:
            source = snapshot(layer, time=end.time, channel=end.channel, voxel_size_um=size)
        except VqldmError:  # told when it is used
            return

        def show(gray: Gray | None) -> None:
            if box.layer is layer:
                box.show_picture(gray)

        title, work = f"Thumbnail of {end.name}", picture_work(source)
        self.desk.run(title, work, on_done=show, priority=Priority.INTERACTIVE, show_progress=False)


def _size_box(axis: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setObjectName(f"vqldm-interpolate-size-{axis}")
    box.setDecimals(4)
    box.setRange(0.0, 100.0)
    box.setSingleStep(0.01)
    make_narrow(box)
    box.setToolTip(f"Size of a voxel along {axis}, in micrometres")
    return box
