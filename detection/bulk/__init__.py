"""Detection over very many images, in shards that a stopped run goes on from.

listing.py lists the images, shards.py cuts the list, folder.py keeps what is finished, manifest.py says what a folder of
shards was made with, shard_worker.py makes shards in this process, cluster.py on a Ray cluster, run.py ties them together.
fsspec, pyarrow and ray are imported where they are used: a local folder to JSON lines needs none of them.
"""
