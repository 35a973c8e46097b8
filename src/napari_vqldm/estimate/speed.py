"""How fast the pieces of a model run: from a self-test of this machine, or guessed from the number of operations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_vqldm.estimate.footprint import decoder_footprint, denoiser_footprint, encoder_footprint
from napari_vqldm.estimate.outline import Outline

if TYPE_CHECKING:
    from napari_vqldm.coding import Precision
    from napari_vqldm.self_test import SelfTest

# Operations per second that networks of small channels reach, measured with the bundled models: per thread of a server
# CPU of 2023, and on an H100 (GPUs of desktops are 3 to 10 times slower).
_FLOPS_PER_THREAD = 4e10
_FLOPS_OF_GPU = 4e12
_BF16_GAIN = {"cpu": 1.0, "cuda": 2.0, "mps": 1.0}
_CAMERA_S, _INTENSITY_S, _RESAMPLE_S = 6e-8, 2.5e-7, 1e-8  # per voxel, one thread


@dataclass(frozen=True)
class Speed:
    """Seconds of the pieces, as in `SelfTest`; ``is_measured`` tells which of the two ways it was found."""

    is_measured: bool
    encode_per_voxel: float
    decode_per_voxel: float
    denoiser: float
    denoiser_batch: int
    denoiser_batched: float
    camera_per_voxel: float
    intensity_per_voxel: float
    resample_per_voxel: float

    def denoiser_call(self, batch: int) -> float:
        """Seconds of one call for ``batch`` volumes."""
        if self.denoiser_batch < 2:
            return self.denoiser * batch
        each = (self.denoiser_batched - self.denoiser) / (self.denoiser_batch - 1)
        return self.denoiser + max(0.0, each) * (batch - 1)


def speed_of(model: Outline, precision: Precision, self_test: SelfTest | None) -> Speed:
    """Return the speed of a model where it is, in a precision."""
    return _guess(model, precision) if self_test is None else _measured(model, precision, self_test)


def _measured(model: Outline, precision: Precision, test: SelfTest) -> Speed:
    denoiser, decode = test.denoiser_seconds or 0.0, test.decode_seconds_per_voxel
    batched = test.denoiser_batch_seconds or 0.0
    if precision == "bf16" and test.precision == "fp32":
        decode = test.bf16_decode_seconds_per_voxel or decode
        half = test.bf16_denoiser_seconds or denoiser
        batched, denoiser = batched * (half / denoiser if denoiser else 1.0), half
    elif precision == "fp32" and test.precision == "bf16":
        # Only the encoder was timed in float32: the others are to it as their operations are.
        rough = _guess(model, precision)
        ratio = test.encode_seconds_per_voxel / rough.encode_per_voxel
        decode, denoiser, batched = (
            value * ratio for value in (rough.decode_per_voxel, rough.denoiser, rough.denoiser_batched)
        )
    return Speed(
        True,
        test.encode_seconds_per_voxel,
        decode,
        denoiser,
        test.denoiser_batch,
        batched,
        test.camera_seconds_per_voxel,
        test.intensity_seconds_per_voxel,
        test.resample_seconds_per_voxel,
    )


def _guess(model: Outline, precision: Precision) -> Speed:
    window = model.config.window
    voxels, kind = math.prod(window), model.kind
    plain = _FLOPS_OF_GPU if kind != "cpu" else _FLOPS_PER_THREAD * model.threads
    rate = plain * (_BF16_GAIN.get(kind, 1.0) if precision == "bf16" else 1.0)
    denoiser = denoiser_footprint(model).flops / rate
    return Speed(
        False,
        encoder_footprint(model, window).flops / voxels / plain,
        decoder_footprint(model, model.grid(window)).flops / voxels / rate,
        denoiser,
        1,
        denoiser,
        _CAMERA_S,
        _INTENSITY_S,
        _RESAMPLE_S,
    )
