"""From images on disk to augmented batches."""
