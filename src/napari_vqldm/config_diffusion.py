"""Configuration of the diffusion: the path between data and noise, and how it is walked back."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from napari_vqldm.config_base import Config, Positive, PositiveInt

SAMPLERS_OF = {"flow": ("euler", "heun", "dpmpp_2m_sde"), "epsilon": ("ddim", "ddpm")}


class DiffusionConfig(Config):
    """Path between data and noise, and what the denoiser predicts.

    ``flow``: x_t = (1 - t) x_0 + t eps, t in [0, 1], the network predicts v = eps - x_0 (rectified flow).
    ``epsilon``: DDPM with ``num_train_timesteps`` steps, the network predicts eps.
    """

    objective: Literal["flow", "epsilon"] = "flow"
    num_train_timesteps: PositiveInt = 1000
    beta_start: Positive = 0.0015
    beta_end: Positive = 0.0195
    schedule: Literal["linear_beta", "scaled_linear_beta"] = "scaled_linear_beta"
    time_sampling: Literal["uniform", "logit_normal"] = "logit_normal"
    time_shift: Annotated[float, Field(ge=1.0, le=100.0)] = 1.0  # flow: more training times and steps near the noise
    steps: PositiveInt = 30  # default number of inference steps
    sampler: Literal["euler", "heun", "dpmpp_2m_sde", "ddim", "ddpm"] = "euler"
    guidance_scale: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0  # default of `generate`; 1 is none
    requantize: bool = True  # vq-ldm: nearest codes once more before decoding

    @model_validator(mode="after")
    def _sampler_fits_objective(self) -> Self:
        if self.sampler not in SAMPLERS_OF[self.objective]:
            uses = ", ".join(f"{name} uses {' or '.join(fitting)}" for name, fitting in SAMPLERS_OF.items())
            raise ValueError(f"sampler {self.sampler!r} does not fit objective {self.objective!r}: {uses}")
        if self.objective == "epsilon" and self.time_shift != 1.0:
            raise ValueError("time_shift is for objective 'flow': epsilon's times follow from its schedule of betas")
        return self
