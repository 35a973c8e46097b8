"""Both bundled models on real stacks: ``python benchmarks/real_stacks.py FOLDER [--out JSON]``.

FOLDER holds the six stacks named below (public data, not part of the package). Each goes through the function behind
``napari-vqldm reconstruct``, and through a latent file that a new process decodes. Exit code 0 when everything holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from napari_vqldm.checkpoint import Model, load_checkpoint
from napari_vqldm.cli.console import Reporter
from napari_vqldm.cli.options import coding_of
from napari_vqldm.cli.reconstruct import reconstruct_file
from napari_vqldm.config import Float3
from napari_vqldm.errors import FileError, VqldmError
from napari_vqldm.files import read_volume
from napari_vqldm.files.atomic import atomic_path
from napari_vqldm.reconstruct import encode
from napari_vqldm.zoo import available, resolve

DEFAULT_OUT = Path(__file__).parent / "results" / "real_stacks.json"
MINIMUM_CORRELATION = 0.9  # to the input, on gated stacks


@dataclass(frozen=True)
class RealStack:
    """A file ``NAME.tif``; ``voxel_size_um`` only where the file states none."""

    name: str
    gated: bool
    voxel_size_um: Float3 | None = None


STACKS = (
    RealStack("spindle3d_R1E_mESC_zeiss40x", True),
    RealStack("spindle_morph_volume00", True),
    RealStack("spindle_morph_length9p5", True),
    RealStack("spindle3d_multidna2", True),
    RealStack("bigtrace_synaptonemal_complex", False),
    RealStack("flowdec_neuron_25pct", False, (0.4, 0.2, 0.2)),
)

# Arguments: checkpoint, latent file, output, threads. The number of threads decides the last bits of a convolution.
DECODE = """
import sys, numpy, torch, napari_vqldm as nv
checkpoint, latent, out, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
numpy.save(out, nv.decode(nv.load(checkpoint), nv.Latent.load(latent)).data)
"""
COMMAND_LINE = "from napari_vqldm.cli import main; main()"


def path_of(folder: Path, stack: RealStack) -> Path:
    """Return the file of a stack."""
    path = folder / f"{stack.name}.tif"
    if not path.is_file():
        raise FileError(f"expected {path.name} in the folder of real stacks: download it first")
    return path


def measure(model: Model, stack: RealStack, source: Path, folder: Path) -> dict[str, Any]:
    """Everything about one stack and one model; ``folder`` takes the files."""
    reading: dict[str, Any] = {"voxel_size_um": stack.voxel_size_um}
    stem = f"{stack.name}-{model.name}"
    target, latent_path, decoded_path = (folder / f"{stem}{end}" for end in (".ome.tif", ".safetensors", ".npy"))
    entry = reconstruct_file(model, source, target, reading, coding_of(None, None), True, Reporter(as_json=True))
    volume, output = read_volume(source, **reading), read_volume(target)
    encode(model, volume).save(latent_path, force=True)
    threads = str(torch.get_num_threads())
    subprocess.run([sys.executable, "-c", DECODE, model.path, latent_path, decoded_path, threads], check=True)
    with tifffile.TiffFile(source) as tif:
        dtype = str(tif.series[0].dtype)
    return {
        "stack": stack.name,
        "model": model.name,
        "family": model.config.family,
        "weights_sha256": model.weights_sha256,
        "grid": list(volume.shape),
        "voxel_size_um": list(volume.voxel_size_um),
        "dtype": dtype,
        "coded_grid": list(entry["coded_shape"]),
        "latent_grid": list(entry["latent_grid"]),
        "correlation": entry["correlation"],
        "gated": stack.gated,
        "passed": bool(entry["correlation"]["reconstruction"] >= MINIMUM_CORRELATION) or not stack.gated,
        "same_geometry": output.shape == volume.shape and bool(np.allclose(output.voxel_size_um, volume.voxel_size_um)),
        "latent_bytes": latent_path.stat().st_size,
        "same_bits": bool(np.array_equal(np.load(decoded_path), output.data)),
        "near_ties": entry.get("near_ties"),
        "cells": int(np.prod(entry["latent_grid"])),
        "seconds": round(entry["seconds"], 2),
    }


def refusal(model: str, stack: RealStack, source: Path, folder: Path) -> dict[str, Any]:
    """What the command says to a stack without voxel size."""
    words = ["reconstruct", str(source), "--model", model, "--out", str(folder / "refused.tif")]
    done = subprocess.run([sys.executable, "-c", COMMAND_LINE, *words], capture_output=True, text=True, check=False)
    message = " ".join(done.stderr.split()).replace(str(source), source.name)
    return {"stack": stack.name, "exit_code": done.returncode, "message": message}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 when everything holds, 1 when something does not, 2 on a wrong request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds the stacks")
    parser.add_argument("--model", action="append", metavar="NAME|FILE", help="repeatable; default all bundled models")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    options = parser.parse_args(arguments)
    names = options.model or list(available())
    if not names:
        print("no bundled model in this installation: give --model FILE", file=sys.stderr)
        return 2
    stacks, refused = [], []
    try:
        sources = [(stack, path_of(options.folder, stack)) for stack in STACKS]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name in names:
                model = load_checkpoint(resolve(name))
                for stack, source in sources:
                    print(f"{model.name}: {stack.name}", file=sys.stderr)
                    stacks.append(measure(model, stack, source, folder))
            for stack, source in sources:
                if stack.voxel_size_um is not None:
                    refused.append(refusal(names[0], stack, source, folder))
    except VqldmError as error:
        print(error, file=sys.stderr)
        return 2
    result = {"format": 1, "minimum_correlation": MINIMUM_CORRELATION, "stacks": stacks, "refused": refused}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.out, True) as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for s in stacks:
        rows = "  ".join(f"{name} {value:.4f}" for name, value in s["correlation"].items())
        print(f"{s['stack']:>30}  {s['model']:>6}  {rows}  {s['latent_bytes']} bytes  same bits: {s['same_bits']}")
    good = all(s["passed"] and s["same_bits"] and s["same_geometry"] for s in stacks)
    return 0 if good and all(r["exit_code"] == 2 for r in refused) else 1


if __name__ == "__main__":
    sys.exit(main())
