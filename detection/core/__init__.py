"""Floor 1: pictures, boxes, anchors, detections. numpy and OpenCV only; never torch, never anything above."""
