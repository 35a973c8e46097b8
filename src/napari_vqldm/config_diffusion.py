"""Configuration of the diffusion: the path between data and noise, and how it is walked back."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from napari_vqldm.config_base import Config, Positive, PositiveInt

SAMPLERS_OF = {
    "flow": ("euler", "heun", "dpmpp_2m_sde", "dpmpp_2m"),
    "epsilon": ("ddim", "ddpm", "dpmpp_2m"),
    "v": ("ddim", "ddpm", "dpmpp_2m"),
}


class DiffusionConfig(Config):
    """Path between data and noise, and what the denoiser predicts.

    ``flow``: x_t = (1 - t) x_0 + t eps, t in [0, 1], the network predicts v = eps - x_0 (rectified flow).
    ``epsilon``: DDPM with ``num_train_timesteps`` steps, x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps, the network
    predicts eps.
    ``v``: the path of ``epsilon``, the network predicts sqrt(abar) eps - sqrt(1 - abar) x_0.
    """

    objective: Literal["flow", "epsilon", "v"] = "flow"
    num_train_timesteps: PositiveInt = 1000  # epsilon, v: steps T of the path, the most that a sampler can take
    beta_start: Positive = 0.0015  # epsilon, v: variance added in the first step
    beta_end: Positive = 0.0195  # epsilon, v: variance added in the last step
    schedule: Literal["linear_beta", "scaled_linear_beta"] = "scaled_linear_beta"  # scaled: linear in sqrt(beta)
    time_sampling: Literal["uniform", "logit_normal"] = "logit_normal"  # training times: evenly, or more in the middle
    time_shift: Annotated[float, Field(ge=1.0, le=100.0)] = 1.0  # flow: more training times and steps near the noise
    # flow: latent cells (d h w) for which ``time_shift`` holds; others take time_shift * sqrt(cells / reference_cells),
    # at least 1. None: ``time_shift`` whatever the size
    reference_cells: PositiveInt | None = None
    steps: PositiveInt = 30  # default number of inference steps
    # Default sampler. Deterministic: euler, heun, dpmpp_2m, ddim; with fresh noise in every step: dpmpp_2m_sde, ddpm
    sampler: Literal["euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "ddim", "ddpm"] = "euler"
    guidance_scale: Annotated[float, Field(ge=0.0, le=100.0)] = 1.0  # default of `generate`; 1 is none
    requantize: bool = True  # vq-ldm: nearest codes once more before decoding

    @model_validator(mode="after")
    def _sampler_fits_objective(self) -> Self:
        if self.sampler not in SAMPLERS_OF[self.objective]:
            uses = ", ".join(f"{name} uses {' or '.join(fitting)}" for name, fitting in SAMPLERS_OF.items())
            raise ValueError(f"sampler {self.sampler!r} does not fit objective {self.objective!r}: {uses}")
        if self.objective != "flow" and self.steps > self.num_train_timesteps:
            raise ValueError(
                f"steps: expected at most num_train_timesteps = {self.num_train_timesteps}, got {self.steps}"
            )
        if not self.beta_start <= self.beta_end < 1.0:
            raise ValueError(
                f"expected beta_start <= beta_end < 1, shares of noise, got {self.beta_start} and {self.beta_end}"
            )
        return self

    @model_validator(mode="after")
    def _only_flow_shifts_times(self) -> Self:
        if self.objective == "flow":
            return self
        for name, is_set in (
            ("time_shift", self.time_shift != 1.0),
            ("reference_cells", self.reference_cells is not None),
        ):
            if is_set:
                raise ValueError(
                    f"{name} is for objective 'flow': {self.objective}'s times follow from its schedule of betas"
                )
        return self
