"""Networks: autoencoder, denoiser and the condition that the denoiser is told."""
