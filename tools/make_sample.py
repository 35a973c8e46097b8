"""Generate the volume behind File > Open Sample > Generated microtubules, which comes with the package.

Run it when the bundled model ``ldm`` changes: ``python tools/make_sample.py``, about a minute on one core.
"""

from __future__ import annotations

import torch

import napari_vqldm as nv
from napari_vqldm.files.samples import generated_path

SEED = 1
SHAPE = (32, 88, 88)  # voxels (z, y, x): the middle of the model's window, about as deep as wide, below 1 MiB as a file
MOST_BYTES = 2**20


def main() -> None:
    torch.set_num_threads(1)  # every machine can repeat it with as many
    (volume,) = nv.generate(nv.load("ldm"), shape=SHAPE, seed=SEED)
    path = nv.write_volume(generated_path(), volume, force=True)
    size = path.stat().st_size
    if size >= MOST_BYTES:
        path.unlink()
        raise SystemExit(f"expected less than {MOST_BYTES} bytes, got {size}: choose a smaller shape")
    print(f"{path}: {volume.shape} voxels, {size} bytes, sha256 of the voxels {volume.provenance['voxels_sha256']}")


if __name__ == "__main__":
    main()
