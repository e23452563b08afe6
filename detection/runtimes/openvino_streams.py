"""Many images through one network of OpenVINO's: one in each of several streams of one thread."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np

AHEAD = 4  # images begun for each stream: it need not wait until Python has taken an output away
TRIAL = 4  # images in each of the trials that tell how many streams pay, for each stream
WORTH = 1.03  # so many times the images a second are worth twice the streams


class Requests:
    """The requests of a compiled network, each for one image at a time: idle ones, and as many more as are asked for."""

    def __init__(self, compiled: Any) -> None:
        self._compiled, self._idle = compiled, deque[Any]()

    def take(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def give(self, request: Any) -> None:
        self._idle.append(request)


class Many:
    """Images through the one-thread streams, `ahead` of them at once. They begin here; `wait` gives the outputs in the order
    of the images."""

    def __init__(self, requests: Requests, images: np.ndarray, ahead: int) -> None:
        self._requests, self._images, self._ahead = requests, images, ahead
        self._begun: deque[Any] = deque()
        self._next = 0
        while self._next < min(ahead, len(images)):
            self._start(requests.take())

    def _start(self, request: Any) -> None:
        image = np.ascontiguousarray(self._images[self._next : self._next + 1])
        request.start_async([image], share_inputs=True)
        self._begun.append((request, image))
        self._next += 1

    def wait(self) -> tuple[np.ndarray, np.ndarray]:
        encodings, logits = [], []
        while self._begun:
            request, _ = self._begun.popleft()
            request.wait()
            one = outputs_of(request)
            if self._next < len(self._images):
                self._start(request)
            else:
                self._requests.give(request)
            encodings.append(one[0])
            logits.append(one[1])
        return np.concatenate(encodings), np.concatenate(logits)


def rate_of(pool: Requests, image: np.ndarray, at_once: int) -> float:
    """Images a second where so many are computed at once."""
    number = TRIAL * at_once
    requests = [pool.take() for _ in range(at_once)]
    begin = time.perf_counter()
    for request in requests:
        request.start_async([image], share_inputs=True)
    for k in range(number):
        request = requests[k % at_once]
        request.wait()
        if k + at_once < number:
            request.start_async([image], share_inputs=True)
    seconds = time.perf_counter() - begin
    for request in requests:
        pool.give(request)
    return number / seconds


def that_pay(requests: Requests, threads: int, image: np.ndarray) -> int:
    """The fewest streams that are as fast as more of them: all, half of them, a quarter, ... are tried, each the same
    network, so that what is found does not depend on it. Cores may be halves of one, or another program's.

    threads: of all streams together. image: uint8 [1, H, W, 3], any."""
    best, counts = 0.0, [threads >> k for k in range(threads.bit_length())]
    chosen = counts[0]
    if len(counts) == 1:
        return chosen
    rate_of(requests, image, chosen)  # the first images of each stream are slow
    for count in counts:
        rate = max(rate_of(requests, image, count) for _ in range(2))
        if rate * WORTH < best:
            break
        best, chosen = max(best, rate), count
    return chosen


def outputs_of(request: Any) -> tuple[np.ndarray, np.ndarray]:
    """Copies of encodings and logits: the request's own memory is written over by its next image."""
    return request.get_output_tensor(0).data.copy(), request.get_output_tensor(1).data.copy()
