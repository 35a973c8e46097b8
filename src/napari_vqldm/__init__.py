"""Generate, reconstruct and control 3D microtubule volumes with latent diffusion."""

__version__ = "0.1.0"
