"""One run from configuration to checkpoint. The same call again goes on where it stopped."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from napari_vqldm import __version__
from napari_vqldm.errors import ConfigError
from napari_vqldm.latent import LatentSpace
from napari_vqldm.processes import usable_cores
from napari_vqldm.training.bank import VolumeBank, bank_for, build_bank
from napari_vqldm.training.config import STAGES, FolderData, StageName, TrainConfig, find_config, load_train_config
from napari_vqldm.training.context import Run
from napari_vqldm.training.data import make_sources
from napari_vqldm.training.export import device_name, final_model, save_result
from napari_vqldm.training.folder import RunFolder, Source, git_hash, open_run, read_json, remove_leftovers, write_json
from napari_vqldm.training.interrupt import Interrupted, StopRequest
from napari_vqldm.training.launch import launch
from napari_vqldm.training.preflight import build_on_meta, check_critics, check_data, check_order, check_starts
from napari_vqldm.training.presence import announced
from napari_vqldm.training.progress import RunLog
from napari_vqldm.training.run_state import process_of, works_there
from napari_vqldm.training.stacks import StackSet, prepare_stacks, stack_set
from napari_vqldm.training.stages.autoencoder import enforce_gate, run_autoencoder
from napari_vqldm.training.stages.denoiser import run_denoiser
from napari_vqldm.training.stages.latents import run_latents

MOST_WORKERS_BESIDE_GPU = 32  # each holds a torch of its own


def run_training(
    config: TrainConfig | str | Path,
    out: str | Path,
    *,
    stages: Sequence[StageName] | None = None,
    fresh: bool = False,
    dry_run: bool = False,
    cache: str | Path | None = None,
    console: Console | None = None,
    changes: Sequence[Mapping[str, Any]] = (),
) -> Path | None:
    """Train, or go on training.

    Parameters
    ----------
    config : TrainConfig, str or Path
        Configuration, TOML file, or name of a preset.
    out : str or Path
        Run folder; created when missing. It holds the configuration, the states from which the run resumes,
        metrics.jsonl, TensorBoard files, pictures and, at the end, ``checkpoint.safetensors``.
    stages : sequence of str, optional
        Which of "autoencoder", "latents", "denoiser" to run, in this order; all by default. Finished stages are kept.
    fresh : bool
        Forget these stages and the later ones, and start them again.
    dry_run : bool
        Check the configuration, print what would happen, write nothing.
    cache : str or Path, optional
        Where simulated volumes are kept; by default inside the run folder. Several runs may share one.
    console : rich.console.Console, optional
        Where messages go.
    changes : sequence of mapping
        Nested values that replace those of ``config``, a file or a preset; kept in the run folder.

    Returns
    -------
    Path or None
        The checkpoint when the run is complete.

    Raises
    ------
    ConfigError
        The configuration is wrong, or is not the one that the run folder was started with.
    TrainingError
        The autoencoder collapsed or fails its gate.
    Interrupted
        A signal asked to stop; everything is saved.
    """
    source = None if isinstance(config, TrainConfig) else find_config(config)
    if isinstance(config, TrainConfig) and changes:
        raise ConfigError("changes are for a file or a preset: change the TrainConfig itself")
    settings = config if isinstance(config, TrainConfig) else load_train_config(config, changes)
    chosen = _ordered(stages)
    folder = RunFolder(Path(out), Path(cache) if cache is not None else Path(out) / "cache")
    check_critics(settings)
    if dry_run:
        check_starts(settings, folder, chosen, fresh)
        _describe(settings, folder, chosen, console or Console())
        return None
    build_on_meta(settings)  # refused before anything is written
    check_data(settings)
    with _process_settings_restored():
        return _run(settings, Source(source, changes), folder, chosen, fresh, console)


def _run(
    settings: TrainConfig,
    source: Source,
    folder: RunFolder,
    chosen: list[StageName],
    fresh: bool,
    console: Console | None,
) -> Path | None:
    """Launch the processes, open the run folder and run the stages."""
    process = process_of(folder)  # before any other of ours is started: none has said yet that it works there
    if process is not None and process.is_here and process.is_alive and process.pid != os.getpid():
        raise works_there(folder.path, process.pid, process.host)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    fabric = launch(settings)
    check_order(folder, settings, chosen)
    check_starts(settings, folder, chosen, fresh)
    if fabric.is_global_zero:
        open_run(folder, settings, source, chosen, fresh)
        remove_leftovers(folder.path)
    fabric.barrier()
    log = RunLog(folder, console, fabric.is_global_zero)
    with StopRequest() as stop, announced(folder, fabric.is_global_zero):
        run = Run(settings, folder, fabric, log, stop)
        try:
            return _run_stages(run, chosen)
        except Interrupted as stopped:
            if fabric.is_global_zero:  # what a job script looks for: exit code 0 means saved or done
                write_json(folder.stopped, {"signal": stopped.signal_number})
            raise
        finally:
            log.close()


@contextmanager
def _process_settings_restored() -> Iterator[None]:
    """Leave torch's settings of the whole process as they were: what follows a training may want full precision."""
    threads, search = torch.get_num_threads(), torch.backends.cudnn.benchmark
    precision = torch.get_float32_matmul_precision()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = search
        torch.set_float32_matmul_precision(precision)


def _run_stages(run: Run, stages: Sequence[StageName]) -> Path | None:
    config, folder, log = run.config, run.folder, run.log
    log.say(
        f"{config.name}: {config.model.family}, seed {config.seed}, {run.device}, {config.precision}, "
        f"{torch.get_num_threads()} threads, {folder.path}"
    )
    _record_circumstances(run)
    bank, stacks = _prepare_data(run)
    source, held_out = make_sources(config.data, config.model, bank, stacks)
    model = final_model(config, source.voxel_size_um)
    autoencoder, gate, problem = run_autoencoder(run, source, held_out)
    if not {"latents", "denoiser"} & set(stages):
        if problem:
            log.say(f"gate not passed: {problem}")
        return None
    enforce_gate(run, gate, problem)
    latents = run_latents(run, autoencoder, source, held_out, bank)
    space = LatentSpace(autoencoder, latents.mean, latents.scale).to(run.device).eval()
    if run.fabric.is_global_zero and not folder.autoencoder_checkpoint.exists():
        save_result(run, folder.autoencoder_checkpoint, model, space, None, gate)
    if "denoiser" not in stages or config.model.denoiser is None:
        return folder.autoencoder_checkpoint if config.model.denoiser is None else None
    denoiser = run_denoiser(run, latents, space)
    if run.fabric.is_global_zero:
        save_result(run, folder.checkpoint, model, space, denoiser, gate)
        log.say(f"checkpoint: {folder.checkpoint}")
    run.fabric.barrier()
    return folder.checkpoint


def _ordered(stages: Sequence[StageName] | None) -> list[StageName]:
    unknown = [stage for stage in stages or () if stage not in STAGES]
    if unknown:
        raise ConfigError(f"unknown stage {unknown[0]!r}: expected {', '.join(STAGES)}")
    return [stage for stage in STAGES if not stages or stage in stages]


def _prepare_data(run: Run) -> tuple[VolumeBank | None, StackSet | None]:
    """Simulate the bank, or read the user's stacks."""
    config, folder, data = run.config, run.folder, run.config.data
    bank, stacks = None, None
    if isinstance(data, FolderData):
        crop = config.autoencoder.crop or config.model.window
        minimum = tuple(max(a, b) for a, b in zip(crop, config.model.window, strict=True))
        stacks = stack_set(folder.path / "cache", data, minimum, config.seed)  # type: ignore[arg-type]

        def prepare() -> None:
            for step in prepare_stacks(stacks, data, minimum, config.seed, run.stop.check):  # type: ignore[arg-type]
                run.log.say(f"stack {step.index}/{step.total}: {step.message}")

        run.first_alone(prepare)
    elif (simulation := config.model.simulation) is not None:
        bank = bank_for(folder, simulation, config.seed, data.num_volumes, data.held_out)

        def build() -> None:
            total = data.num_volumes + data.held_out
            with run.log.bar("simulate", total) as bar:
                workers = data.workers or (1 if run.device.type == "cpu" else _workers_beside_gpu())
                builder = build_bank(bank, simulation, config.seed, str(run.device), run.stop.check, workers)
                for built in builder:
                    bar.update(built.index)

        run.first_alone(build)
    return bank, stacks


def _workers_beside_gpu() -> int:
    """Simulating processes by default: one fewer than the cores that this process may use."""
    return max(1, min(usable_cores() - 1, MOST_WORKERS_BESIDE_GPU))


def _record_circumstances(run: Run) -> None:
    """Append when, where and with which code this process runs."""
    if not run.fabric.is_global_zero:
        return
    path = run.folder.path / "run.json"
    record: dict[str, Any] = {
        "time_utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "git": git_hash(),
        "napari_vqldm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning_fabric": metadata.version("lightning-fabric"),
        "device": device_name(run.device),
        "threads": torch.get_num_threads(),
    }
    write_json(path, [*(read_json(path) or []), record])


def _describe(config: TrainConfig, folder: RunFolder, stages: Sequence[StageName], console: Console) -> None:
    """Print what a run would do."""
    numbers = {name: sum(p.numel() for p in module.parameters()) for name, module in build_on_meta(config).items()}
    lines = [
        config.model_dump_json(indent=1),
        f"run folder: {folder.path}",
        f"stages: {', '.join(stages)}",
        f"latent: {config.model.autoencoder.latent_channels} channels on {config.latent_shape}",
    ]
    lines += [f"{name}: {number:,} parameters" for name, number in numbers.items()]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
