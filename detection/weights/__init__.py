"""Weights files. safetensors with a card are ours; importers read what others published. Never unpickles."""
