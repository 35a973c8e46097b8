"""The Reconstruct tab: a layer through the model and back."""
