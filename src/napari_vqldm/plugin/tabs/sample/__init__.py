"""The Sample tab: volumes from noise, and a camera that records them."""
