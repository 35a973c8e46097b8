"""The thread that owns the model, the jobs that it runs, and what it tells the dock."""
