"""Training engine: simulated or user volumes to one checkpoint, in three stages that resume.

``stages/autoencoder.py`` learns the latent space, ``stages/latents.py`` encodes the training volumes once,
``stages/denoiser.py`` learns to generate latents. `napari_vqldm.training.run.run_training` runs them in order.
"""
