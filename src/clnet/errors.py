"""Every error that clnet raises on purpose, in one tree.

    ClnetError
    ├── InputError            what the caller gave cannot be used as it is (exit code 2)
    │   ├── UnknownAnatomy    a name that the vocabulary does not know
    │   ├── ContractError     a label mapping that contradicts itself or the data
    │   ├── CaseRejected      one case of a dataset: file, field, reason
    │   ├── ContributionRefused   a dataset of which nothing was stored
    │   ├── NotFound          a dataset, encoder, decoder, job or release that is not there
    │   ├── AlreadyExists     a name or version that is taken: artefacts are immutable
    │   ├── AccessDenied      a token or key that is not valid, or not for this
    │   ├── QuotaExceeded     a site would keep more than it may
    │   └── Incompatible      parts that were not made for each other
    ├── IntegrityError        stored bytes do not match their hash
    ├── Cancelled             the caller stopped the work; nothing of it was kept
    ├── StorageUnavailable    an object store does not answer, or refuses
    ├── JobFailed             a training or tuning job ended without a result
    └── ServiceError          a clnet server refused or could not answer

Each message says what was wrong, where, and what to do. The module is the floor of the
package: every part may import it, it imports nothing.
"""

from __future__ import annotations

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "Cancelled",
    "CaseRejected",
    "ClnetError",
    "ContractError",
    "ContributionRefused",
    "Incompatible",
    "InputError",
    "IntegrityError",
    "JobFailed",
    "NotFound",
    "QuotaExceeded",
    "ServiceError",
    "StorageUnavailable",
    "UnknownAnatomy",
]


class ClnetError(Exception):
    """Root of all errors that clnet raises on purpose."""


class InputError(ClnetError, ValueError):
    """What the caller gave cannot be used as it is."""


class UnknownAnatomy(InputError):
    """A name that the vocabulary does not know."""


class ContractError(InputError):
    """A label mapping that contradicts itself or the data it describes."""


class CaseRejected(InputError):
    """One case of a dataset cannot be stored.

    Attributes:
        file: the file at fault, as the caller named it.
        field: what about it (``affine``, ``voxels``, ``mapping.3`` ...).
        code: the kind of finding that it is in a validation report.
    """

    def __init__(self, file: str, field: str, reason: str, code: str = "case.rejected") -> None:
        super().__init__(f"{file}: {field}: {reason}")
        self.file = file
        self.field = field
        self.reason = reason
        self.code = code

    def __reduce__(self) -> tuple[type[CaseRejected], tuple[str, str, str, str]]:
        # the default would replay the formatted message as the only argument
        return type(self), (self.file, self.field, self.reason, self.code)


class ContributionRefused(InputError):
    """A contribution of which nothing was stored, as too many of its cases are at fault."""


class NotFound(InputError):
    """A dataset, encoder, decoder, job or release that is not there."""


class AlreadyExists(InputError):
    """A name or version that is taken: artefacts are immutable."""


class AccessDenied(InputError):
    """A token or key that is unknown, expired or revoked, or that does not open this."""


class QuotaExceeded(InputError):
    """A site would keep more than the hub lets it."""


class Incompatible(InputError):
    """Parts that were not made for each other."""


class IntegrityError(ClnetError):
    """Stored bytes do not match the hash that names them."""


class Cancelled(ClnetError):
    """The caller stopped the work; nothing of it was kept."""


class JobFailed(ClnetError):
    """A training or tuning job ended without a result."""


class ServiceError(ClnetError):
    """A clnet server refused or could not answer."""


class StorageUnavailable(ClnetError):
    """An object store does not answer, or refuses."""
