"""Detection over very many images, in shards that a stopped run goes on from.

sources.py lists the images, shards.py cuts the list and writes rows, folder.py keeps what is finished, manifest.py
says what a folder of shards was made with, work.py makes shards in this process, cluster.py on a Ray cluster, run.py
ties them together. May import detection.core, detection.detector and what is below it; never torch, never training.
fsspec, pyarrow and ray are imported where they are used: a local folder to JSON lines needs none of them.
"""
