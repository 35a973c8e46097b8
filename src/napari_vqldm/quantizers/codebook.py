"""One learned codebook with exact chunked lookup, k-means start and dead-code restart.

The codebook is moved by the optimizer through ||sg[z] - z_q||^2 (van den Oord et al. 2017, arXiv:1711.00937, Eq. 3) or,
with ``kind="ema"``, by the moving averages of its appendix A.1. Either way only `update` and the optimizer touch it:
coding a volume never does, whatever the mode of the module.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from napari_vqldm.config import QuantizerConfig
from napari_vqldm.errors import ShapeError
from napari_vqldm.quantizers.base import Quantization, Quantizer

CHUNK_ROWS = 8192  # distances of one chunk: 8192 x K doubles, 64 MiB at K = 1024
KMEANS_VECTORS = 65536
KMEANS_ITERATIONS = 10


class CodebookQuantizer(Quantizer):
    """Nearest vector of a (K, C) codebook.

    Parameters
    ----------
    config : QuantizerConfig
        Size, who moves the codebook, restart rule.
    dim : int
        Channels C of the latent.
    """

    steps_unused: Tensor
    ema_count: Tensor
    ema_sum: Tensor

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        codebook = torch.randn(config.codebook_size, dim)
        self.codebook = nn.Parameter(codebook, requires_grad=config.kind == "gradient")
        # Training state, not weights of the model: kept by the training engine, absent from checkpoints.
        self.register_buffer("steps_unused", torch.zeros(config.codebook_size, dtype=torch.int64), persistent=False)
        self.register_buffer("ema_count", torch.ones(config.codebook_size), persistent=False)
        self.register_buffer("ema_sum", codebook.clone(), persistent=False)

    def training_state(self) -> dict[str, Tensor]:
        """Buffers that a resumed training run needs besides the weights."""
        return {"steps_unused": self.steps_unused, "ema_count": self.ema_count, "ema_sum": self.ema_sum}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `training_state` returned."""
        for name, tensor in self.training_state().items():
            tensor.copy_(state[name])

    def forward(self, latent: Tensor) -> Quantization:
        """Quantize (B, C, D, H, W) with straight-through gradient (Eq. 2); never in half precision."""
        self._check(latent)
        with torch.autocast(latent.device.type, enabled=False):
            latent = _at_least_float32(latent)
            code_indices = self.nearest(latent)
            nearest = self.embed(code_indices)
            return Quantization(
                quantized=latent + (nearest - latent).detach(),
                code_indices=code_indices,
                codebook_loss=F.mse_loss(nearest, latent.detach()),
                commitment_loss=F.mse_loss(latent, nearest.detach()),
            )

    @torch.no_grad()
    def nearest(self, latent: Tensor) -> Tensor:
        """Code indices (B, D, H, W); memory is constant in the volume size beyond the indices themselves."""
        self._check(latent)
        vectors = rearrange(_at_least_float32(latent), "b c d h w -> (b d h w) c")
        batch, _, depth, height, width = latent.shape
        with torch.autocast(latent.device.type, enabled=False):  # in half precision close codes tie
            found = [distances.argmin(dim=1) for distances in self._distances(vectors)]
        return torch.cat(found).view(batch, depth, height, width)

    def embed(self, code_indices: Tensor) -> Tensor:
        """Code vectors (B, C, D, H, W)."""
        return rearrange(F.embedding(code_indices, self.codebook), "b d h w c -> b c d h w")

    @torch.no_grad()
    def margin(self, latent: Tensor) -> Tensor:
        """(d2 - d1) / d2 of the distances d1, d2 to the nearest and the second nearest code, (B, D, H, W).

        0 where both are equally near, 1 on a code; a pure number, since the unit of a latent is arbitrary. Identical
        codes count as one: which of them is chosen changes nothing. Infinite when no two codes differ.
        """
        self._check(latent)
        vectors = rearrange(_at_least_float32(latent), "b c d h w -> (b d h w) c")
        batch, _, depth, height, width = latent.shape
        codes = torch.unique(self.codebook, dim=0).double()
        if len(codes) < 2:
            return torch.full((batch, depth, height, width), torch.inf, device=latent.device)
        gaps = []
        for chunk in vectors.split(CHUNK_ROWS):
            two = torch.cdist(chunk.double(), codes).topk(2, dim=1, largest=False).values
            gaps.append(1 - two[:, 0] / two[:, 1])
        return torch.cat(gaps).to(vectors.dtype).view(batch, depth, height, width)

    @torch.no_grad()
    def initialize(self, vectors: Tensor, generator: torch.Generator) -> None:
        """k-means over (N, C) encoder vectors; spare codes of small sets start at vectors drawn with a little noise."""
        size = self.config.codebook_size
        vectors = _at_least_float32(vectors.detach()).cpu()
        pick = torch.randperm(len(vectors), generator=generator)[:KMEANS_VECTORS]
        vectors = vectors[pick]
        start = vectors[torch.randint(len(vectors), (size,), generator=generator)]
        spread = vectors.std(dim=0, keepdim=True).clamp_min(1e-6)
        start = start + 0.01 * spread * torch.randn(start.shape, generator=generator)
        centroids = start
        if len(vectors) > size:
            with warnings.catch_warnings():  # an empty cluster keeps its start, which is a vector too: no trouble
                warnings.filterwarnings("ignore", message="One of the clusters is empty")
                found, _ = kmeans2(
                    vectors.double().numpy(), start.double().numpy(), iter=KMEANS_ITERATIONS, minit="matrix"
                )
            centroids = torch.as_tensor(found, dtype=vectors.dtype)
        self._replace(torch.arange(size), centroids)

    @torch.no_grad()
    def update(self, latent: Tensor, code_indices: Tensor, generator: torch.Generator) -> dict[str, float]:
        """Moving averages (``kind="ema"``), then restart of codes unused for ``restart_after`` updates.

        A restart resets vector, count and sum together. Replacements are drawn from this batch with ``generator``.
        """
        vectors = rearrange(_at_least_float32(latent.detach()), "b c d h w -> (b d h w) c")
        flat = code_indices.reshape(-1)
        counts = torch.bincount(flat, minlength=self.config.codebook_size).to(vectors.dtype)
        if self.config.kind == "ema":
            decay = self.config.ema_decay
            sums = torch.zeros_like(self.ema_sum).index_add_(0, flat, vectors)
            self.ema_count.mul_(decay).add_(counts, alpha=1 - decay)
            self.ema_sum.mul_(decay).add_(sums, alpha=1 - decay)
            used = self.ema_count > 1e-3  # below, the average of nothing would throw the code far away
            self.codebook.data[used] = self.ema_sum[used] / self.ema_count[used, None]
        self.steps_unused.add_(1)
        self.steps_unused[counts > 0] = 0
        dead = torch.nonzero(self.steps_unused >= self.config.restart_after).flatten()
        if self.config.restart and len(dead):
            pick = torch.randint(len(vectors), (len(dead),), generator=generator)
            self._replace(dead, vectors[pick.to(vectors.device)])
        used_now = counts / counts.sum().clamp_min(1)
        entropy = -(used_now * used_now.clamp_min(1e-12).log()).sum()
        return {
            "perplexity_batch": float(entropy.exp()),
            "codes_used_batch": float((counts > 0).sum()),
            "restarted": float(len(dead)) if self.config.restart else 0.0,
        }

    def _replace(self, codes: Tensor, vectors: Tensor) -> None:
        vectors = vectors.to(self.codebook.device, self.codebook.dtype)
        codes = codes.to(self.codebook.device)
        self.codebook.data[codes] = vectors
        self.ema_sum[codes] = vectors
        self.ema_count[codes] = 1.0
        self.steps_unused[codes] = 0

    def _distances(self, vectors: Tensor) -> Iterator[Tensor]:
        """Squared distances minus ||x||^2, (rows, K) chunk by chunk, so that only one chunk is alive.

        In float64 where the device has it: a process that allows TF32 products would change two codes in a hundred.
        """
        codes = self.codebook.detach().to(torch.float32 if self.codebook.device.type == "mps" else torch.float64)
        code_norms = codes.square().sum(dim=1)
        for chunk in vectors.split(CHUNK_ROWS):
            yield torch.addmm(code_norms, chunk.to(codes), codes.T, alpha=-2.0)

    def _check(self, latent: Tensor) -> None:
        if latent.ndim != 5 or latent.shape[1] != self.codebook.shape[1]:
            raise ShapeError(f"expected a latent (B, {self.codebook.shape[1]}, D, H, W), got {tuple(latent.shape)}")


def _at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, everything else as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
