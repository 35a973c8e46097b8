"""True float32 matrix products: what decides between nearly equal codes must not be rounded to TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision_products() -> Iterator[None]:
    """Multiply float32 matrices in float32 whatever the process is set to, and restore its setting.

    Training allows TF32 for speed, whose 10 bits of mantissa change about two codes in a hundred. Never held across a
    ``yield``: the setting belongs to the process.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
