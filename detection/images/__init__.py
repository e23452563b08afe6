"""From what a person names to pixels: sources, headers, decoding, pre-processing. numpy and OpenCV only."""
