"""Runtimes: torch, OpenVINO, ONNX Runtime, LiteRT behind one protocol (`base`), in one table (`table`)."""
