"""Look inside a model: where its codes lie, what each of them paints, what quantization costs, which channels work."""
