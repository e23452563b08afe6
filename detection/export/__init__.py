"""Checkpoints as files of other runtimes, and in 8 bits: what is written is compared with its source."""
