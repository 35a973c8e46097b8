"""Start the processes of a run: one, several on this computer, or those that torchrun or SLURM started already."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning_fabric.plugins.precision import Precision
from lightning_fabric.strategies import DDPStrategy

from napari_vqldm.errors import ConfigError
from napari_vqldm.training.config import TrainConfig

THREADS_BESIDE_GPU = 4


@dataclass(frozen=True)
class ProcessGrid:
    """How many processes train together, and who started them ("this program", "torchrun", "srun")."""

    per_node: int
    nodes: int
    starter: str


class AsTheyAre(Precision):
    """Leave modules, inputs and outputs as they are; lightning's own 64 bits round the outputs, losses too, to 32."""

    precision = "64-true"

    def convert_input(self, data: Any) -> Any:
        """Return the input."""
        return data

    def convert_output(self, data: Any) -> Any:
        """Return the output."""
        return data


def process_grid(devices: int, starter: str, environment: Mapping[str, str]) -> ProcessGrid:
    """Return the processes that a run consists of.

    Parameters
    ----------
    devices : int
        As the configuration says; 1 leaves it to the program that started the processes.
    starter : str
        "torchrun", "srun", or "this program".
    environment : mapping
        Environment variables.

    Raises
    ------
    ConfigError
        If the configuration and the starter disagree.
    """
    if starter == "torchrun":
        per_node = int(environment["LOCAL_WORLD_SIZE"])
        nodes = int(environment["WORLD_SIZE"]) // per_node
    elif starter == "srun":
        nodes = int(environment.get("SLURM_NNODES", "1"))
        tasks = int(environment["SLURM_NTASKS"])
        per_node = tasks // nodes
        if per_node * nodes != tasks:
            raise ConfigError(f"srun started {tasks} processes on {nodes} nodes: expected the same number on each")
    else:
        return ProcessGrid(devices, 1, starter)
    if devices not in (1, per_node):
        raise ConfigError(
            f"{starter} started {per_node} processes on each node, the configuration says devices = {devices}: "
            "make them equal, or leave devices out"
        )
    return ProcessGrid(per_node, nodes, starter)


def launch(config: TrainConfig) -> Fabric:
    """Start the processes; more than one only on request.

    Raises
    ------
    ConfigError
        If there is no such device, or the processes that were started are not those that the configuration asks for.
    """
    accelerator = config.device
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda":
        if not torch.cuda.is_available():
            raise ConfigError("device = 'cuda': no such device here: use device = 'auto' or 'cpu'")
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True  # nearly every step has the same shapes
        if config.threads is None:  # the CPU only feeds the GPU, and more threads wait for one another
            torch.set_num_threads(min(THREADS_BESIDE_GPU, torch.get_num_threads()))
    grid = process_grid(config.devices, _starter(), os.environ)
    strategy: DDPStrategy | str = "auto"
    if grid.per_node * grid.nodes > 1:
        # A codebook is idle before its start. The others wait while the first process simulates and encodes.
        has_codebook = config.model.autoencoder.quantizer is not None
        strategy = DDPStrategy(find_unused_parameters=has_codebook, timeout=timedelta(hours=24))
    precision = config.precision
    if precision == "bf16-mixed" and accelerator == "cpu":  # emulated, many times slower, and not finite in places
        precision = "32-true"
    fabric = Fabric(
        accelerator=accelerator,
        devices=grid.per_node,
        num_nodes=grid.nodes,
        precision=None if precision == "64-true" else precision,
        plugins=[AsTheyAre()] if precision == "64-true" else None,
        strategy=strategy,
    )
    fabric.launch()
    return fabric


def _starter() -> str:
    if TorchElasticEnvironment.detect():
        return "torchrun"
    return "srun" if SLURMEnvironment.detect() else "this program"
