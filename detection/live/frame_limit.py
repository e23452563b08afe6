"""One limit for the frames of all cameras and streams, whoever decodes them; and one for the memory of the process that does.

Motion JPEG and snapshots are measured before they are decoded. FFmpeg (RTSP, HLS, files behind http) decodes the first frame
while it opens a stream, and tells of no frame that changes its size later: there the memory is what ends it.
"""

from __future__ import annotations

from pathlib import Path

MOST_MEMORY = 4 << 30  # bytes beside those of its start: 16 reference frames of 100 megapixels and the copies of one


class TooLarge(Exception):
    """Frames that are not taken; its text is one line without the source's name, which the parent puts before it."""


def check_frame(width: float, height: float) -> None:
    """Raises TooLarge for a frame of more pixels than an image may have."""
    from detection.images.decode import MAX_PIXELS

    if width * height > MAX_PIXELS:
        size, limit = f"{width:.0f} x {height:.0f}", f"{MAX_PIXELS / 1e6:g} megapixels"
        raise TooLarge(f"its frames have {size} pixels, more than {limit}: ask it for smaller ones")


def limit_memory(more: int = MOST_MEMORY) -> None:
    """This process may take so many bytes more, and then gets none (on Linux; elsewhere it is not limited)."""
    try:
        import resource

        status = Path("/proc/self/status").read_text()
        now = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData:"))
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (now + more if hard < 0 else min(now + more, hard), hard))
    except (ImportError, OSError, StopIteration, ValueError):
        pass
