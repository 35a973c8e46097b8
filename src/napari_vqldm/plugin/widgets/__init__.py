"""The small widgets of the dock, under one name: messages, progress, copy menu, layer choice, seed."""

from napari_vqldm.plugin.widgets.copy_button import CopyButton
from napari_vqldm.plugin.widgets.error_panel import ErrorPanel
from napari_vqldm.plugin.widgets.help_label import HelpLabel
from napari_vqldm.plugin.widgets.layer_picker import LayerPicker
from napari_vqldm.plugin.widgets.progress_row import ProgressRow
from napari_vqldm.plugin.widgets.seed_box import SeedBox

__all__ = ["CopyButton", "ErrorPanel", "HelpLabel", "LayerPicker", "ProgressRow", "SeedBox"]
