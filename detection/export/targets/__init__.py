"""Folders for other systems: one file a system, one row in `table`."""
