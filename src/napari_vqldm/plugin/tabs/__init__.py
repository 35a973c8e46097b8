"""One tab a file: a view shows its state and emits; the work is a generator for the inference thread."""
