"""One module a format: files on disk -> `DetectionData`."""
