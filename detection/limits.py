"""What takes memory, threads or processes by its number alone has limits, which no machine of today reaches."""

MOST = 2**31 - 1  # of anything that is counted
MOST_IMAGES = 65_536  # at once
MOST_THREADS = 1024
MOST_WORKERS = 256  # processes that load images
