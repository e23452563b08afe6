"""Measurements that stand beside the project: see README.md. Nothing of the project imports them."""
