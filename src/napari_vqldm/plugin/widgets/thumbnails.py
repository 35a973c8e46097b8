"""Small pictures of volumes: pixels on any thread, a label that shows them on the GUI thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QFrame, QLabel, QWidget

from napari_vqldm.pictures import Gray, contrast_limits, max_projection, resize, to_gray

SIZE = 72  # logical pixels
_SHARP = 2  # device pixels per logical one: sharp on screens of 200 % scaling, too


def thumbnail_of(data: npt.NDArray[Any], side: int = SIZE * _SHARP) -> Gray:
    """Return the maximum projection along z, its longer edge ``side`` pixels.

    Parameters
    ----------
    data : ndarray
        Volume (Z, Y, X).
    side : int
        Pixels.

    Returns
    -------
    ndarray
        uint8 (H, W), robust contrast.
    """
    projection = max_projection(data, 0)
    gray = to_gray(projection, contrast_limits(projection))
    rows, columns = gray.shape
    longer = max(rows, columns)
    return resize(gray, max(1, round(rows * side / longer)), max(1, round(columns * side / longer)))


def pixmap_of(gray: Gray) -> QPixmap:
    """Return gray pixels (H, W), uint8, as a picture for widgets."""
    pixels = np.ascontiguousarray(gray)
    rows, columns = pixels.shape
    image = QImage(pixels.data, columns, rows, columns, QImage.Format.Format_Grayscale8)
    return QPixmap.fromImage(image.copy())  # the copy owns its pixels


class Thumbnail(QLabel):
    """A square for the picture of one volume.

    Attributes
    ----------
    gray : ndarray or None
        What is shown.
    """

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setFixedSize(SIZE, SIZE)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.gray: Gray | None = None

    def show_gray(self, gray: Gray | None) -> None:
        """Show pixels (H, W), or nothing."""
        self.gray = gray
        if gray is None:
            self.clear()
            return
        ratio = self.devicePixelRatioF()
        pixmap = pixmap_of(gray).scaled(
            round(SIZE * ratio),
            round(SIZE * ratio),
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        pixmap.setDevicePixelRatio(ratio)
        self.setPixmap(pixmap)
