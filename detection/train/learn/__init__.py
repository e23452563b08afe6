"""Targets, losses, the loop and its optimizer, schedule, EMA, processes."""
