"""The dock "VQ-LDM Microtubules": tabs above, one status row, messages and tools for the selected layer below."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QHideEvent, QShowEvent
from qtpy.QtWidgets import QApplication, QFrame, QMainWindow, QScrollArea, QTabWidget, QVBoxLayout, QWidget
from superqt import QElidingLabel

from napari_vqldm.errors import VqldmError
from napari_vqldm.plugin.compat import bare
from napari_vqldm.plugin.desk import Desk
from napari_vqldm.plugin.keys import bind_keys, unbind_keys
from napari_vqldm.plugin.layer_tools import LayerTools
from napari_vqldm.plugin.status import Status

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_vqldm.plugin.tabs.interpolate.tab import InterpolateTab
    from napari_vqldm.plugin.tabs.model.tab import ModelTab
    from napari_vqldm.plugin.tabs.reconstruct.tab import ReconstructTab
    from napari_vqldm.plugin.tabs.sample.tab import SampleTab

# Title to module and class. A tab is made when it is first wanted, or when the window has nothing else to do.
TABS = {
    "Model": ("model.tab", "ModelTab"),
    "Sample": ("sample.tab", "SampleTab"),
    "Reconstruct": ("reconstruct.tab", "ReconstructTab"),
    "Interpolate": ("interpolate.tab", "InterpolateTab"),
    "Codebook": ("codebook.tab", "CodebookTab"),
    "Measure": ("measure.tab", "MeasureTab"),
    "Training": ("training.tab", "TrainingTab"),
}
TAB_PAUSE_MS = 100
FIRST_MODEL = "ldm"  # open from the start, so that the first click on Generate works
NARROW = 320  # pixels: the least width that everything must work at

_open_docks: weakref.WeakSet[Dock]


class Dock(QWidget):
    """Load a model, sample, reconstruct, interpolate, look inside, measure, follow a training run.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The viewer that the dock is added to; napari hands it over.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.setObjectName("vqldm-dock")
        self.setAcceptDrops(True)
        self.desk = Desk(napari_viewer, self)
        self._keys: dict[str, Any] = {}
        self._is_closed = False
        self._build()
        self._connect()
        self.desk.guarded(lambda: self.desk.model.open(FIRST_MODEL))
        self.tab("Model")
        self._bind_keys()
        _open_docks.add(self)
        self.destroyed.connect(_last_resort(self))

    # --- for commands, readers, scripts -----------------------------------------------------------------------------

    def tab(self, title: str) -> Any:
        """Return a tab by its title; it is made now if nobody saw it yet."""
        if title not in TABS:
            raise VqldmError(f"expected a tab among {', '.join(TABS)}, got {title!r}")
        if title not in self._tabs:
            module, name = TABS[title]
            tab = getattr(import_module(f"napari_vqldm.plugin.tabs.{module}"), name)(self.desk)
            self._tabs[title] = tab
            self._pages[title].setWidget(tab)
        return self._tabs[title]

    @property
    def model_tab(self) -> ModelTab:
        """The tab with the card of the model."""
        tab: ModelTab = self.tab("Model")
        return tab

    @property
    def sample_tab(self) -> SampleTab:
        """The tab that generates volumes."""
        tab: SampleTab = self.tab("Sample")
        return tab

    @property
    def reconstruct_tab(self) -> ReconstructTab:
        """The tab that reconstructs and compares."""
        tab: ReconstructTab = self.tab("Reconstruct")
        return tab

    @property
    def interpolate_tab(self) -> InterpolateTab:
        """The tab with the slider between two volumes."""
        tab: InterpolateTab = self.tab("Interpolate")
        return tab

    def show_tab(self, title: str) -> QWidget:
        """Bring a tab to the front and return it."""
        tab: QWidget = self.tab(title)
        self.tabs.setCurrentIndex(list(TABS).index(title))
        return tab

    def open_model(self, name_or_path: str | Path) -> None:
        """Choose a checkpoint and show its card; a bad one is explained in the panel, and the old one stays."""
        self.show_tab("Model")
        self.desk.guarded(lambda: self.desk.model.open(name_or_path))

    def reproduce(self, layer: Layer) -> None:
        """Compute a layer of ours again and say whether the bits are the same."""
        self.tools.reproduce(layer)

    def copy_python(self, layer: Layer) -> None:
        """Put the script that computes a layer of ours on the clipboard."""
        text = self.desk.guarded(lambda: self.desk.python_of(layer))
        if text is not None:
            QApplication.clipboard().setText(text)
            self.desk.noticed.emit(f"The Python script for {layer.name} is on the clipboard.")

    def compare(self, layer: Layer) -> None:
        """Show a layer beside its reconstruction."""
        self.show_tab("Reconstruct")
        self.reconstruct_tab.compare(layer)

    def measure(self, layer: Layer) -> None:
        """Trace the filaments of a layer and show their numbers."""
        self.show_tab("Measure")
        self.tab("Measure").measure(layer)

    def shut_down(self) -> None:
        """Cancel all work and let go of the viewer; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        for tab in self._tabs.values():
            tab.close_tab()
        self.tools.close_tools()
        self._unbind_keys()
        self.desk.close()

    def _make_next_tab(self) -> None:
        """Make one tab that nobody saw yet; the window stays responsive between two."""
        waiting = [title for title in TABS if title not in self._tabs]
        if waiting and not self._is_closed:
            self.tab(waiting[0])
            QTimer.singleShot(TAB_PAUSE_MS, self._make_next_tab)

    # --- Qt -----------------------------------------------------------------------------------------------------------

    def changeEvent(self, event: QEvent) -> None:
        """Shut down when napari takes the dock out of its window: that sends neither a close event nor `destroyed`."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down()
            self.deleteLater()  # Qt's connections would keep it, and the models and volumes that it knows, for ever

    def hideEvent(self, event: QHideEvent) -> None:
        """Shut down when the viewer closes. Being hidden alone, or behind another tab, closes nothing."""
        super().hideEvent(event)
        window = self.window()
        if isinstance(window, QMainWindow) and window.isHidden():  # in a moment all is deleted
            self.shut_down()

    def showEvent(self, event: QShowEvent) -> None:
        """Make the other tabs while nothing else happens."""
        super().showEvent(event)
        QTimer.singleShot(TAB_PAUSE_MS, self._make_next_tab)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept checkpoints."""
        if _checkpoints(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Open a dropped checkpoint."""
        for path in _checkpoints(event)[:1]:
            event.acceptProposedAction()
            self.open_model(path)

    def _build(self) -> None:
        self.header = QElidingLabel("No model is open")
        self.header.setObjectName("vqldm-header")
        self.tabs = QTabWidget()
        self.tabs.setObjectName("vqldm-tabs")
        self.tabs.setUsesScrollButtons(True)
        self._tabs: dict[str, Any] = {}
        self._pages = {title: _page() for title in TABS}
        for title, page in self._pages.items():
            self.tabs.addTab(page, title)
        self.status = Status(self.desk)
        self.progress, self.errors, self.notice = self.status.progress, self.status.errors, self.status.notice
        self.tools = LayerTools(self.desk)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        for widget in (self.header, self.tabs, self.status, self.tools):
            column.addWidget(widget, 1 if widget is self.tabs else 0)

    def _connect(self) -> None:
        self.desk.model_changed.connect(self._show_header)
        self.tabs.currentChanged.connect(lambda index: self.tab(list(TABS)[index]))
        app = QApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.shut_down)

    def _bind_keys(self) -> None:
        actions: dict[str, Callable[[], Any]] = {
            "generate": lambda: self.sample_tab.start(),
            "reconstruct": lambda: self.reconstruct_tab.start(),
            "blink": lambda: self.reconstruct_tab.blink(),
            "undo": self.desk.undo.undo,
            "redo": self.desk.undo.redo,
            "cancel": self.desk.runner.cancel_all,
        }
        self._keys = bind_keys(self.desk.viewer, actions)

    def _unbind_keys(self) -> None:
        try:
            unbind_keys(self.desk.viewer, self._keys)
        except VqldmError:
            pass  # the viewer is gone, and its keys with it
        self._keys = {}

    def _show_header(self) -> None:
        model = self.desk.model
        if model.header is None:
            self.header.setText("No model is open")
            return
        card = model.header.card
        size = sum(card.parameters.values()) / 1e6
        names = dict.fromkeys([card.name, card.family])  # bundled models are named like their family
        self.header.setText(" · ".join([*names, f"{size:.1f} M parameters", str(model.device)]))
        self.header.setToolTip(str(model.path))


_open_docks = weakref.WeakSet()


def dock_of(viewer: Any) -> Dock | None:
    """Return the open dock of a viewer; None when it has none."""
    for dock in list(_open_docks):
        if not dock._is_closed and dock.desk._viewer() is bare(viewer):
            return dock
    return None


def _last_resort(dock: Dock) -> Callable[[], None]:
    """What ends the work of a dock that Qt deletes without hiding it first: it was never shown."""
    reference, runner, preferences = weakref.ref(dock), dock.desk.runner, dock.desk.preferences

    def end(*_: object) -> None:
        deleted = reference()
        if deleted is not None:
            deleted._is_closed = True
        preferences.close()
        runner.close()

    return end


def _page() -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    return area


def _checkpoints(event: Any) -> list[str]:
    """Paths of the dropped files that may be checkpoints."""
    data = event.mimeData()
    urls = data.urls() if data is not None else []
    return [url.toLocalFile() for url in urls if url.toLocalFile().endswith(".safetensors")]
