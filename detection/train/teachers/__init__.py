"""Learning from a stronger detector: distillation and pseudo-labels."""
