"""The errors that people see: one clear line that names the file and the way out, no traceback, exit code 2."""


class MobileSSDError(Exception):
    """Something a person can put right. Its message is one line: what is wrong, with which file, and what to do."""


class BadImageError(MobileSSDError):
    """A file that is no image, or a broken, empty or unreasonably large one."""


class BadWeightsError(MobileSSDError):
    """A weights file that is broken, of another kind, or does not fit the network asked for."""


class BadDataError(MobileSSDError):
    """Annotations or results that cannot be read, or do not fit together."""


class MissingPackageError(MobileSSDError):
    """An optional library that is not installed; the message holds the command that installs it."""
