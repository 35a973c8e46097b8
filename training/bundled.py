"""Train both bundled models on one machine: ``python training/bundled.py RUNS [--denoiser-steps N M]``.

The second model starts from the first and shares its simulated volumes. Its autoencoder and latents are made beside the
denoiser of the first: alone, each leaves much of a GPU idle. The same command again resumes. Results:
RUNS/ldm/checkpoint.safetensors and RUNS/vq-ldm/checkpoint.safetensors. ``--autoencoders NAME NAME`` (checkpoints or
bundled models) trains new denoisers for autoencoders that stay as they are.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

if find_spec("napari_vqldm") is None:  # not installed: take the clone that this file lies in
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from napari_vqldm.errors import TrainingError, VqldmError
from napari_vqldm.training.config import StageName, TrainConfig, load_train_config
from napari_vqldm.training.interrupt import Interrupted
from napari_vqldm.training.run import run_training


def planned(preset: str, steps: int | None, start: Path | None, autoencoder_from: str | None) -> TrainConfig:
    """Read a preset; ``steps`` replaces its denoiser's, ``start`` (a run folder) the model that it starts from.

    With ``autoencoder_from`` the autoencoder of that checkpoint stays as it is.
    """
    config = load_train_config(preset)
    denoiser = config.denoiser.model_dump() | ({"steps": steps} if steps else {})
    autoencoder = config.autoencoder.model_dump()
    for stage in (autoencoder, denoiser):
        if stage["init_from"] is not None and start is not None:
            stage["init_from"] = str(start)
    if autoencoder_from is not None:
        autoencoder |= {"steps": 0, "init_from": autoencoder_from}
    return TrainConfig.model_validate(config.model_dump() | {"autoencoder": autoencoder, "denoiser": denoiser})


def run_stages(config: TrainConfig, out: Path, bank: Path, stages: Sequence[StageName]) -> None:
    """Run some stages and say how long they took."""
    start = time.perf_counter()
    run_training(config, out, stages=stages, cache=bank)
    print(f"{out.name}: {', '.join(stages)}: {time.perf_counter() - start:.0f} s", flush=True)


def beside(config: TrainConfig, out: Path, bank: Path, stages: Sequence[StageName]) -> None:
    """As `run_stages`, in a process of its own: an error or a stop is its exit code."""
    try:
        run_stages(config, out, bank, stages)
    except VqldmError as error:
        sys.exit(f"error: {error}")
    except Interrupted as stop:
        sys.exit(stop.exit_code or 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train the first model, then the second; 0 when both are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="RUNS", help="folder of both run folders and the simulated volumes")
    parser.add_argument("--presets", nargs=2, default=("ldm", "vq-ldm"), metavar="PRESET", help="presets or TOML files")
    parser.add_argument("--denoiser-steps", nargs=2, type=int, default=(None, None), metavar="N", help="of each model")
    parser.add_argument("--autoencoders", nargs=2, default=(None, None), metavar="NAME", help="taken as they are")
    options = parser.parse_args(arguments)
    try:
        first_out, second_out = (options.out / Path(preset).stem for preset in options.presets)
        first = planned(options.presets[0], options.denoiser_steps[0], None, options.autoencoders[0])
        second = planned(options.presets[1], options.denoiser_steps[1], first_out, options.autoencoders[1])
        bank = options.out / "bank"
        run_stages(first, first_out, bank, ["autoencoder", "latents"])
        context = multiprocessing.get_context("spawn")  # a fork would inherit the state of the GPU
        process = context.Process(target=beside, args=(second, second_out, bank, ["autoencoder", "latents"]))
        process.start()
        try:
            run_stages(first, first_out, bank, ["denoiser"])
        finally:
            if sys.exc_info()[0] is not None:
                process.terminate()  # it saves and leaves
            process.join()
        if process.exitcode != 0:
            raise TrainingError(
                f"{second_out.name}: its first stages ended with exit code {process.exitcode}, see above"
            )
        run_stages(second, second_out, bank, ["denoiser"])
    except VqldmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
