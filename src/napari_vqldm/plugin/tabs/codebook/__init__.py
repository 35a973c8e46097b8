"""The Codebook tab: which codes a model uses, where they stand, what each of them paints."""
