"""What the forms of the dock hold, without Qt: evented fields, checked, and turned into requests for the core."""
