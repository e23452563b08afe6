"""What a person asked `mobilessd live` for, in one place. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class PageOptions:
    """host, port: where it listens; port 0: any that is free. token: what remote visitors must show; None: made up,
    where one is needed. cert, key: PEM files; with them the page is served by https, which browsers ask for before they
    give a page that is not on this machine a camera.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class LiveOptions:
    """sources: cameras' numbers, URLs, files, folders, each as SOURCE or NAME=SOURCE.
    show: "window", "page" or "none".  record: a video of what is shown; record_minutes: a new file after so many.
    speed: of files, "own" or "max"; None: own where somebody watches.  loop: files begin again at their end.
    frames: stop after so many of each source.  stats: print the delays of each stage.
    keep_trying: also wait for cameras of which none can be opened at the start.  camera_size: (width, height).
    page: where the web page is served, if `show` is "page".
    track: number objects; lines and zones (see gate_spec.parse_gate) want it too.  watch: the file in which lines and
    zones are kept (see gate_file).  on: classes, lines and zones to act upon; run: the command for them; clips: the
    folder for clips of them, with so many seconds before and after.
    views: "auto", or "turn:" and a grid (see view_time); None: the detector's own.
    motion: whether the network looks only where something moves, and after motion_look seconds all the same; motion_masks:
    polygons where motion does not count.
    events, webhook, mqtt: where everything that happens is told; mqtt_password: where mqtt names a user alone.
    jsonl, csv: files for what is seen in each frame, "-" for standard output.
    """

    sources: list[str] = field(default_factory=list)
    show: str = "none"
    record: str | None = None
    record_minutes: float | None = None
    speed: str | None = None
    loop: bool = False
    frames: int | None = None
    stats: bool = False
    keep_trying: bool = False
    camera_size: tuple[int, int] | None = None
    page: PageOptions = PageOptions()
    track: bool = False
    lines: list[str] = field(default_factory=list)
    zones: list[str] = field(default_factory=list)
    watch: str | None = None
    on: list[str] = field(default_factory=list)
    run: str | None = None
    clips: str | None = None
    before: float = 5.0
    after: float = 5.0
    events: str | None = None
    webhook: str | None = None
    mqtt: str | None = field(default=None, repr=False)
    mqtt_password: str | None = field(default=None, repr=False)
    views: str | None = None
    motion: bool = False
    motion_look: float = 10.0
    motion_masks: list[str] = field(default_factory=list)
    jsonl: str | None = None
    csv: str | None = None
