"""How a codebook is used: counts over a whole set, never over one batch alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class CodeUsage:
    """Counts (K,) of code indices. Add two to merge sets."""

    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, code_indices: npt.NDArray[np.integer], codebook_size: int) -> CodeUsage:
        """Count the indices of any shape."""
        return cls(np.bincount(np.ravel(code_indices), minlength=codebook_size).astype(np.int64))

    def __add__(self, other: CodeUsage) -> CodeUsage:
        return CodeUsage(self.counts + other.counts)

    @property
    def total(self) -> int:
        """Number of latent cells counted."""
        return int(self.counts.sum())

    @property
    def dead_codes(self) -> int:
        """Codes never used."""
        return int((self.counts == 0).sum())

    @property
    def perplexity(self) -> float:
        """Exp of the entropy of code use, in 1..K; 0 for an empty set."""
        if self.total == 0:
            return 0.0
        share = self.counts[self.counts > 0] / self.total
        return float(np.exp(-(share * np.log(share)).sum()))
