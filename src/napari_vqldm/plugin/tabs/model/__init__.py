"""The Model tab: which checkpoint, whether to trust it, where it computes."""
