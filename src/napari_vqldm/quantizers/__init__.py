"""Quantizers: from continuous latents to a finite codebook. One idea a file behind one protocol."""

from napari_vqldm.config import QuantizerConfig
from napari_vqldm.quantizers.base import Quantization, Quantizer
from napari_vqldm.quantizers.codebook import CodebookQuantizer
from napari_vqldm.quantizers.usage import CodeUsage

__all__ = ["CodeUsage", "CodebookQuantizer", "Quantization", "Quantizer", "make_quantizer"]


def make_quantizer(config: QuantizerConfig, dim: int) -> Quantizer:
    """Build the quantizer that ``config`` describes for latents of ``dim`` channels."""
    return CodebookQuantizer(config, dim)
