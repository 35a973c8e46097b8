"""The verbs, put together. Every verb imports its heavy parts inside its function: help and cards stay instant."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from napari_vqldm import __version__
from napari_vqldm.cli import (
    codebook,
    compare,
    crop,
    demo,
    evaluate,
    generate,
    info,
    interpolate,
    latents,
    measure,
    reconstruct,
    record,
    reproduce,
    simulate,
    train,
    uncertainty,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"napari-vqldm {__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads of PyTorch; by default its own choice. Before the verb."),
    ] = None,
) -> None:
    """Generate, reconstruct and control 3D microtubule volumes with latent diffusion.

    Models: ldm (continuous latents), vq-ldm (codebook), or any checkpoint file. Generated volumes are not evidence of
    biology. Exit codes: 0 done, 1 a bug, 2 a mistake that one line explains, 130 interrupted.
    """
    if threads is not None:
        import torch

        context.call_on_close(partial(torch.set_num_threads, torch.get_num_threads()))
        torch.set_num_threads(threads)


app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)
app.callback()(_root)

START, VERBS, INSPECT = "Start", "Volumes and latents", "Models"
app.command("demo", rich_help_panel=START)(demo.demo)
app.command("info", rich_help_panel=START)(info.info)
app.command("simulate", rich_help_panel=VERBS)(simulate.simulate)
app.command("generate", rich_help_panel=VERBS)(generate.generate)
app.command("reconstruct", rich_help_panel=VERBS)(reconstruct.reconstruct)
app.command("compare", rich_help_panel=VERBS)(compare.compare)
app.command("measure", rich_help_panel=VERBS)(measure.measure)
app.command("uncertainty", rich_help_panel=VERBS)(uncertainty.uncertainty)
app.command("record", rich_help_panel=VERBS)(record.record)
app.command("crop", rich_help_panel=VERBS)(crop.crop)
app.command("reproduce", rich_help_panel=VERBS)(reproduce.reproduce)
app.command("encode", rich_help_panel=VERBS)(latents.encode)
app.command("decode", rich_help_panel=VERBS)(latents.decode)
app.command("interpolate", rich_help_panel=VERBS)(interpolate.interpolate)
app.command("codebook", rich_help_panel=INSPECT)(codebook.codebook)
app.command("evaluate", rich_help_panel=INSPECT)(evaluate.evaluate)
app.command("train", rich_help_panel=INSPECT, add_help_option=False, context_settings=train.PASS_THROUGH)(train.train)
