"""Recognize that memory ran out: Python, PyTorch's CPU allocator and CUDA each say it in their own way."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text
