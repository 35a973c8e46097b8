"""The Measure tab: filaments of layers in micrometres."""
