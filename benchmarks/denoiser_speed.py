"""Seconds per training step of the denoiser: ``python benchmarks/denoiser_speed.py [--widths 48,96,128/1,2,2 ...]``.

Channels per level, and residual blocks after a slash. Forward, backward and optimizer step in bfloat16 on random
latents of the bundled models' shape, everything else of a training step left out; each case with contiguous tensors and
with channels last, with ``--compile`` also compiled. Prints one JSON object per case.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import torch

from napari_vqldm.config import DenoiserConfig, DiffusionConfig
from napari_vqldm.diffusion import make_process
from napari_vqldm.models.denoiser import Denoiser
from napari_vqldm.training.losses import DenoiserTask

LATENT = (4, 16, 32, 32)  # channels, z, y, x


LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
Widths = tuple[tuple[int, ...], tuple[int, ...]]


def widths(text: str) -> Widths:
    """Read "48,96,128/1,2,2": channels and blocks."""
    channels, _, blocks = text.partition("/")
    return tuple(map(int, channels.split(","))), tuple(map(int, (blocks or "1,2,2").split(",")))


def seconds_per_step(
    config: DenoiserConfig, device: torch.device, batch: int, steps: int, layout: torch.memory_format, compiled: bool
) -> dict[str, object]:
    """Time the middle of a short training."""
    torch.manual_seed(0)
    task = DenoiserTask(Denoiser(config, LATENT[0]), make_process(DiffusionConfig(time_shift=4.0))).to(device)
    task.to(memory_format=layout)
    parameters = sum(p.numel() for p in task.parameters())
    optimizer = torch.optim.AdamW(task.parameters(), 1e-4, fused=device.type == "cuda")
    if compiled:
        task.compile()
    x_0, eps = (torch.randn(batch, *LATENT, device=device).contiguous(memory_format=layout) for _ in range(2))
    t = torch.rand(batch, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = task(x_0, eps, t, None, None)["loss"]
        loss.backward()
        optimizer.step()

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    start = wait()
    for _ in range(3):
        step()
    warm = wait()
    for _ in range(steps):
        step()
    seconds = (wait() - warm) / steps
    return {
        "widths": config.channels,
        "blocks": config.blocks,
        "layout": next(name for name, value in LAYOUTS.items() if value is layout),
        "compiled": compiled,
        "parameters": parameters,
        "first_three_steps_s": round(warm - start, 2),
        "step_s": round(seconds, 5),
        "volume_ms": round(1000 * seconds / batch, 3),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Time every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", nargs="+", type=widths, default=[widths("48,96,128")], metavar="A,B,C/I,J,K")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    options = parser.parse_args(arguments)
    torch.backends.cudnn.benchmark = True
    for channels, blocks in options.widths:
        for layout in (LAYOUTS[name] for name in options.layouts):
            for compiled in (False, True) if options.compile else (False,):
                torch.compiler.reset()
                case = seconds_per_step(
                    DenoiserConfig(channels=channels, blocks=blocks, scale_shift=True, condition_channels=0),
                    torch.device(options.device),
                    options.batch,
                    options.steps,
                    layout,
                    compiled,
                )
                print(json.dumps(case), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
