"""Reports for people: what a model or a folder of volumes is worth, as numbers and as one page."""
