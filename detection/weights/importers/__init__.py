"""Readers of other people's weights files. No file's code is ever run."""
