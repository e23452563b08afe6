"""Box coder, anchors, post-processing, detections, class names. numpy and OpenCV only; never torch."""
