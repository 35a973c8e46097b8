"""The Training tab: follow a run, look at what it makes, start one, stop it."""
