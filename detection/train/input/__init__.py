"""From images on disk to augmented batches. albumentations and torch inside the functions that need them."""
