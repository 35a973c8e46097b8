"""What training minimizes: the terms of both stages, and one task per stage that adds them up."""

from napari_vqldm.training.losses.tasks import AutoencoderTask, DenoiserTask

__all__ = ["AutoencoderTask", "DenoiserTask"]
