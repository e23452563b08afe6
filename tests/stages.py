"""For detectors that tests make up: the stages of a stream, from `prepare`, `runtime` and `finish` of one view."""

import numpy as np


class OneView:
    def streams(self):
        return 0

    def see(self, image):
        return self.prepare([image])

    def compute(self, seen):
        return list(zip(*self.runtime(np.concatenate(seen))))

    def conclude(self, raw, image_size):
        return self.finish(*raw, image_size)
