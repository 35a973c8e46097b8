"""The tabs of the dock, one folder each: a view shows its state; the work is a generator for the inference thread."""
