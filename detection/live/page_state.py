"""What the page's server answers from: the sources, the detector, who watches. Shared by routes.py and sockets.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detection.live.broadcaster import View
from detection.live.channels import Channel
from detection.live.connections import Connections
from detection.live.faults import Faults
from detection.live.gate_book import GateBook
from detection.live.pipeline import Engine
from detection.live.upload_api import UploadApi


@dataclass
class PageState:
    """channels: the sources. detector: for visitors' images. score: where the page's slider stands at first; the boxes
    that it gets reach down to `lowest`. engine: whose life /healthz looks at. uploads: images and frames that visitors
    send. book: lines and zones. views: by the key of the source. connections, faults,
    wrong_tokens, lost: what /metrics counts; lost: events that did not arrive, by where they were to go. closing: true
    once the server is to end."""

    channels: Sequence[Channel]
    detector: Any
    score: float
    lowest: float
    engine: Engine | None
    uploads: UploadApi
    book: GateBook
    views: dict[str, View]
    connections: Connections
    faults: Faults
    wrong_tokens: Callable[[], int] = lambda: 0
    lost: Callable[[], Mapping[str, int]] = dict
    started: float = field(default_factory=time.monotonic)
    closing: bool = False

    def counts(self) -> dict[str, float]:
        """The numbers of the server itself, for /metrics."""
        return {
            "page_faults_total": self.faults.count,
            "page_connections": len(self.connections),
            "page_connections_refused_total": self.connections.refused,
            "page_wrong_tokens_total": self.wrong_tokens(),
        }

    def view_of(self, channel: Channel) -> View:
        """The step of the pipeline that shows a channel."""
        view = self.views[channel.capture.source.key]
        view.gates = lambda: channel.watch.gates if channel.watch else ()
        return view
