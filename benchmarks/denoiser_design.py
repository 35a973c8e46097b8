"""Our denoiser against MONAI's at equal minutes: ``python benchmarks/denoiser_design.py RUN [--minutes 3]``.

RUN is the run folder of an ldm whose stage "latents" is finished: its latents are the data, and times are drawn as it
says. Both networks have the channels, blocks and attention of RUN's configuration, see no condition, and are trained
one after the other on the same latents, noise and times with the same optimizer for the same number of minutes.
Printed as JSON: parameters, seconds per step, held-out loss.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn

from napari_vqldm.config import DenoiserConfig, DiffusionConfig, validate
from napari_vqldm.diffusion import Process, make_process
from napari_vqldm.models.denoiser import TIME_SCALE, Denoiser
from napari_vqldm.training.stages.latents import LatentCache

CHECKED = 16  # held-out latents


class Monai(nn.Module):
    """MONAI 1.6.1's U-Net behind the signature of ours."""

    def __init__(self, config: DenoiserConfig, latent_channels: int) -> None:
        super().__init__()
        self.unet = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_res_blocks=config.blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.norm_groups,
            num_head_channels=config.head_channels,
            use_flash_attention=True,
        )

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict (B, C, d, h, w)."""
        out: Tensor = self.unet(x_t, timesteps=t * TIME_SCALE)
        return out


def draw(cache: LatentCache, part: str, indices: list[int], generator: torch.Generator) -> Tensor:
    """Standardised latents (B, C, d, h, w), drawn from their posteriors."""
    moments = torch.stack([torch.tensor(cache.entry(part, i)).float() for i in indices])
    mean, sd = moments[:, 0], moments[:, 1]
    raw = mean + sd * torch.randn(mean.shape, generator=generator)
    return (raw - cache.mean.view(1, -1, 1, 1, 1)) / cache.scale.view(1, -1, 1, 1, 1)


def measure(
    network: nn.Module, cache: LatentCache, process: Process, minutes: float, batch: int, rate: float
) -> dict[str, float]:
    """Train for some minutes, return the held-out loss."""
    network = network.to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.99), weight_decay=0.0)

    def loss_of(part: str, indices: list[int], generator: torch.Generator) -> Tensor:
        x_0 = draw(cache, part, indices, generator)
        eps = torch.randn(x_0.shape, generator=generator)
        t = process.sample_times(len(indices), generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            prediction = network(process.noisy(x_0, eps, t), t)
        return F.mse_loss(prediction.float(), process.target(x_0, eps, t))

    generator = torch.Generator().manual_seed(0)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < 60 * minutes:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (steps + 1) / 50)
        indices = torch.randint(len(cache), (batch,), generator=generator).tolist()
        optimizer.zero_grad()
        loss_of("train", indices, generator).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        steps += 1
    seconds = time.perf_counter() - start
    network.eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        losses = [float(loss_of("held_out", [i], generator)) for i in range(min(CHECKED, cache.count("held_out")))]
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": steps,
        "seconds_per_step": round(seconds / steps, 4),
        "held_out_loss": round(sum(losses) / len(losses), 5),
    }


def main() -> int:
    """Run both and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    options = parser.parse_args()
    settings = json.loads((options.run / "config.json").read_text(encoding="utf-8"))
    cache = LatentCache(options.run / "cache" / "latents", settings["latents"]["chunk"])
    model = settings["model"]
    config = validate(
        DenoiserConfig, model["denoiser"] | {"condition": None, "condition_channels": 0}, str(options.run)
    )
    process = make_process(validate(DiffusionConfig, model["diffusion"], str(options.run)))
    results: dict[str, object] = {
        "minutes": options.minutes,
        "batch": options.batch,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
    }
    for name, kind in (("ours", Denoiser), ("monai", Monai)):
        torch.manual_seed(0)
        results[name] = measure(
            kind(config, len(cache.mean)), cache, process, options.minutes, options.batch, options.learning_rate
        )
    json.dump(results, sys.stdout, indent=1)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
