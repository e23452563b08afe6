"""A camera, stream or video watched as it plays.

capture.py brings frames, pipeline.py detects on them and keeps time, overlay.py writes the numbers on the image,
recorder.py and window.py are where frames go. No torch here: the Detector brings what its runtime needs.
"""
