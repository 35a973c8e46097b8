"""Watchers: they notice what goes wrong in a training and name the remedy. They never stop a run or change weights."""

from napari_vqldm.training.watchers.adversary import AdversarialInstability, DeadDiscriminator
from napari_vqldm.training.watchers.base import Trouble, Watch, Watcher, Window, WindowWatcher
from napari_vqldm.training.watchers.choose import watchers_for
from napari_vqldm.training.watchers.latent import CodebookCollapse, LatentScale, PosteriorCollapse, ScaleDrift
from napari_vqldm.training.watchers.overfit import AutoencoderOverfit, DenoiserOverfit

__all__ = [
    "AdversarialInstability",
    "AutoencoderOverfit",
    "CodebookCollapse",
    "DeadDiscriminator",
    "DenoiserOverfit",
    "LatentScale",
    "PosteriorCollapse",
    "ScaleDrift",
    "Trouble",
    "Watch",
    "Watcher",
    "Window",
    "WindowWatcher",
    "watchers_for",
]
