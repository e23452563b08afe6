"""Weights made from names alone, the same on every machine, and what the networks of others said of them: goldens."""

import zlib

import numpy as np


def numbers(name, shape, low=-1.0, high=1.0):
    """float32, spread evenly from `low` to `high`, another row for each name."""
    at = np.arange(int(np.prod(shape)), dtype=np.float64) + zlib.crc32(name.encode()) % 9973
    part = np.sin(at * 12.9898) * 43758.5453
    return (low + (high - low) * (part - np.floor(part))).astype(np.float32).reshape(shape)


def kernel(name, shape):
    """[out, in / groups, k, k], such that sums neither vanish nor grow."""
    return numbers(name, shape) * np.float32((6 / np.prod(shape[1:])) ** 0.5)


def norm(name, channels):
    """gamma, beta, mean, variance of a batch norm."""
    ranges = {"gamma": (0.8, 1.2), "beta": (-0.2, 0.2), "mean": (-0.1, 0.1), "variance": (0.8, 1.2)}
    return {part: numbers(f"{name}/{part}", (channels,), *ends) for part, ends in ranges.items()}


def image(side=64):
    """float32 [1, 3, side, side]."""
    return numbers("image", (1, 3, side, side))


def probes(features):
    """Eight numbers and the mean of [1, C, h, w], for comparisons."""
    flat = np.asarray(features, np.float64).ravel()
    return [round(float(flat[k * (len(flat) - 1) // 7]), 6) for k in range(8)] + [round(float(flat.mean()), 6)]
