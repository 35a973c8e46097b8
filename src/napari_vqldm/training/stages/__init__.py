"""The stages of a run, in order: autoencoder, latents, denoiser."""
