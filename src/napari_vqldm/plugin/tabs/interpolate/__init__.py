"""The Interpolate tab: two ends and the way between them."""
