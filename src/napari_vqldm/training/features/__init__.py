"""Training of the feature extractor by which sets of volumes are compared; see `napari_vqldm.metrics.features`.

Apart from the training of generative models: it shares the simulator with them, and neither weights nor seeds. Needs
torch, numpy, scipy, pydantic and safetensors only.
"""
