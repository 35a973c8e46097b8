"""Numbers about volumes: fidelity to a reference, traced filaments, distances between sets, copies of training data."""
