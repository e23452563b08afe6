"""Training: configs, targets, losses, the loop, and what a run leaves behind. Inference never imports it."""
