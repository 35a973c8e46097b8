"""Input and reconstruction together: side by side, in separate canvases, blinking, wiped, as numbers and as plots."""
