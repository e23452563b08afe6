"""`detection.errors` under the name that the documentation once gave it."""

from detection.errors import BadDataError as BadDataError
from detection.errors import BadImageError as BadImageError
from detection.errors import BadWeightsError as BadWeightsError
from detection.errors import MissingPackageError as MissingPackageError
from detection.errors import MobileSSDError as MobileSSDError
