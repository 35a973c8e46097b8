"""The verb `record`: photograph a noise-free volume with a camera after it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from napari_vqldm.config import CameraConfig, Float3
from napari_vqldm.environment import describe_environment
from napari_vqldm.errors import VolumeError
from napari_vqldm.files.provenance import describe_input, make_provenance
from napari_vqldm.metrics.noise import estimate_noise
from napari_vqldm.simulate.camera import render_camera
from napari_vqldm.simulate.draws import check_seed, integer_seed
from napari_vqldm.volume import Volume, check_blur, seal

_GENERATED, _OTHER = 3, 10  # streams of camera noise: of generated volumes, of all others


def record(volume: Volume, camera: CameraConfig, seed: int | None = None) -> Volume:
    """Record a noise-free volume with a camera.

    Parameters
    ----------
    volume : Volume
        Noise-free expectation in filament units: background 0, peak of one filament 1. Generated without a camera,
        the clean part of a simulated one, or one without a record, which is taken for such a volume where it shows no
        noise.
    camera : CameraConfig
        Detector; its extra blur comes before the noise.
    seed : int, optional
        Of the noise, from 0 to 2**64 - 1. None: a generated volume gets the noise that `generate` gives its seed and
        index with this camera, so that the result equals ``generate(..., camera=camera)`` bit for bit; any other one
        gets seed 0.

    Returns
    -------
    Volume
        Camera counts, same shape and voxel size.

    Raises
    ------
    VolumeError
        If the volume holds camera noise already, or is not in filament units.
    ConfigError
        If the seed is out of range or the camera's blur is wider than the volume.
    """
    if reason := why_not_recordable(volume):
        raise VolumeError(f"{volume.name}: {reason}: record a noise-free volume, as generate and simulate make them")
    if seed is not None:
        check_seed(seed)
    check_blur(camera.blur_um, volume.shape, volume.voxel_size_um)
    clean = torch.from_numpy(volume.data)[None, None]
    made_by = volume.provenance.get("request", {}) if volume.provenance.get("verb") == "generate" else {}
    if seed is None and {"seed", "index"} <= set(made_by):
        noise_seed = generated_noise_seed(made_by["seed"], made_by["index"])
    else:
        noise_seed = integer_seed(seed or 0, 0, _OTHER)
    data = expose(clean, camera, volume.voxel_size_um, noise_seed)[0, 0].numpy()
    provenance = make_provenance(
        "record",
        environment=describe_environment("cpu"),
        **describe_input(volume),
        camera=camera.model_dump(mode="json"),
        seed=seed,
        name=volume.name,
    )
    return seal(Volume(data, volume.voxel_size_um, provenance, f"{volume.name}-recorded"))


def generated_noise_seed(seed: int, index: int) -> int:
    """Return the seed of the camera noise of generated volume ``index`` of ``seed``."""
    return integer_seed(seed, index, _GENERATED)


def expose(clean: Tensor, camera: CameraConfig, voxel_size_um: Float3, noise_seed: int) -> Tensor:
    """Record one clean volume (1, 1, D, H, W); the one way by which `generate` and `record` come to counts."""
    with torch.no_grad():
        return render_camera(clean, camera, voxel_size_um, [noise_seed])


def why_not_recordable(volume: Volume) -> str | None:
    """Say why a camera cannot record this volume, or return None when it can.

    The record of the volume decides. One that says nothing is refused where it shows noise (see
    `napari_vqldm.metrics.noise.estimate_noise`).
    """
    source = _uncropped(volume.provenance)
    if source.get("verb") in (None, "read"):
        is_noisy = estimate_noise(volume.data).is_measurable
        return "it shows noise, so it is a recording already" if is_noisy else None
    return _why_not(source, volume.name)


def _uncropped(provenance: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the record of what a volume was cut out of: a box holds noise if that does."""
    while provenance.get("verb") == "crop":
        provenance = provenance.get("request", {}).get("source", {})
    return provenance


def _why_not(provenance: Mapping[str, Any], name: str) -> str | None:
    """Say why a volume with this record cannot be recorded."""
    verb, request = provenance.get("verb"), provenance.get("request", {})
    if verb in ("residual", "uncertainty"):
        return f"it is no image but a map ({verb})"
    if verb == "record" or (verb == "generate" and request.get("camera") is not None):
        return "it holds camera noise already"
    if verb == "simulate" and not _is_clean_part(request, name):
        return "it holds camera noise already: it is the noisy part of a simulated volume"
    if request.get("target") == "input":
        return f"it holds camera noise already: model {request.get('model')} learned noisy stacks"
    sources = list(_stacks_behind(provenance))
    if not all(_is_in_filament_units(source) for source in sources):
        return "it is in the units of the stack that was reconstructed, not in peaks of one filament"
    return None


def _is_clean_part(request: Mapping[str, Any], name: str) -> bool:
    """Tell the clean from the noisy part of a simulated volume; older records know them by name alone."""
    return bool(request["part"] == "clean") if "part" in request else not name.endswith("-noisy")


def _stacks_behind(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the records of the stacks whose latents a volume was decoded from; none for generated volumes."""
    verb, request = provenance.get("verb"), provenance.get("request", {})
    if verb == "decode":
        yield from _stacks_behind(request.get("latent", {}))
    elif verb in ("interpolate", "blend"):
        for end in request.get("ends", ()):
            yield from _stacks_behind(end)
    elif verb == "encode":
        yield request.get("source", {})


def _is_in_filament_units(provenance: Mapping[str, Any]) -> bool:
    """Tell whether the record of a stack says that its unit is the peak of one filament."""
    provenance = _uncropped(provenance)
    verb, request = provenance.get("verb"), provenance.get("request", {})
    if verb == "simulate":
        return request.get("camera") is None or request.get("part") == "clean"
    return verb in ("generate", "interpolate") and request.get("camera") is None and "ends" not in request
