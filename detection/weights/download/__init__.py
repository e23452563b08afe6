"""Files from the network into the cache: transferred, unpacked, verified. Knows nothing of networks."""
