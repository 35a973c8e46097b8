"""The verbs, put together. Every verb imports its heavy parts inside its function: help and cards stay instant."""

from __future__ import annotations

from typing import Annotated

import typer

from napari_vqldm import __version__
from napari_vqldm.cli import (
    codebook,
    demo,
    evaluate,
    generate,
    info,
    interpolate,
    latents,
    reconstruct,
    simulate,
    train,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"napari-vqldm {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Generate, reconstruct and control 3D microtubule volumes with latent diffusion.

    Models: ldm (continuous latents), vq-ldm (codebook), or any checkpoint file. Generated volumes are not evidence of
    biology. Exit codes: 0 done, 1 a bug, 2 a mistake that one line explains, 130 interrupted.
    """


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
app.command("encode", rich_help_panel=VERBS)(latents.encode)
app.command("decode", rich_help_panel=VERBS)(latents.decode)
app.command("interpolate", rich_help_panel=VERBS)(interpolate.interpolate)
app.command("codebook", rich_help_panel=INSPECT)(codebook.codebook)
app.command("evaluate", rich_help_panel=INSPECT)(evaluate.evaluate)
app.command("train", rich_help_panel=INSPECT, add_help_option=False, context_settings=train.PASS_THROUGH)(train.train)
