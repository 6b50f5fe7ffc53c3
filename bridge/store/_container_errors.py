"""Turns what the blob service and its client say into the store's own errors, with nothing of the SAS in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bridge.errors import (
    ApiVersionError,
    NoSuchPlaceError,
    SasError,
    SasExpiredError,
    StoreAccessError,
    StoreCorruptError,
    StoreError,
    StoreExistsError,
    StoreFullError,
    StoreNotFoundError,
    StorePermissionError,
    StoreReadOnlyError,
    StoreReplacedError,
    StoreUnreachableError,
)
from bridge.store._sas import SasInfo
from bridge.store._wire import BUSY, retry_after_s

_HEADER_NAME = re.compile(r"(?i)headername\W+([\w-]+)")
# Permissions for a container or blob (Create a service SAS, Microsoft Learn).
_PERMISSIONS = {
    "r": "Read",
    "a": "Add",
    "c": "Create",
    "w": "Write",
    "d": "Delete",
    "x": "Delete version",
    "y": "Permanent delete",
    "l": "List",
    "t": "Tags",
    "f": "Find",
    "m": "Move",
    "e": "Execute",
    "o": "Ownership",
    "p": "Permissions",
    "i": "Set immutability policy",
}

# Error codes of the blob service (Blob service error codes, Common REST API error codes, Microsoft Learn).
_NOT_FOUND = {
    "BlobNotFound": "there is no such blob",
    "ContainerNotFound": "there is no such container",
    "ResourceNotFound": "there is no such blob or container",
    "ContainerBeingDeleted": "the container is being deleted",
    "ContainerDisabled": "the container is disabled",
}
_READ_ONLY = {
    "AccountIsDisabled": "the storage account is disabled",
    "BlobImmutableDueToPolicy": "a policy makes the blob immutable",
    "LeaseIdMissing": "somebody holds a lease on the blob",
    "InsufficientAccountPermissions": "the account's permissions do not allow it",
    "ReadOnlyAccount": "the account is read-only",
}
_WRONG_TYPE = {
    "InvalidBlobType": "a page blob or an append blob has this name",
    "BlobArchived": "an archived blob has this name",
    "BlobBeingRehydrated": "an archived blob has this name",
}
_NAMES = {"InvalidUri", "InvalidResourceName", "OutOfRangeInput"}
_ELSEWHERE = "Deliver to another folder of the container, or to another container."
_WHAT_TO_DO = {
    "LeaseIdMissing": f"Have the lease broken. Or: {_ELSEWHERE[0].lower()}{_ELSEWHERE[1:]}",
    "ContainerBeingDeleted": "Choose another container, or wait some minutes and have it made again.",
    "BlobImmutableDueToPolicy": _ELSEWHERE,
    "RequestBodyTooLarge": "Have the limit raised of what stands before the service: requests have up to 4 MiB,"
    " smaller ones where that is refused, and at least 256 KiB.",
    **dict.fromkeys(_WRONG_TYPE, f"Remove that blob. Or: {_ELSEWHERE[0].lower()}{_ELSEWHERE[1:]}"),
    **dict.fromkeys(_NAMES, "The service does not take this name: deliver to a shorter folder name, or to a share."),
    **dict.fromkeys(
        ("AccountIsDisabled", "InsufficientAccountPermissions", "ReadOnlyAccount", "ContainerDisabled"),
        "Ask the owner of the storage account, or choose another destination.",
    ),
}
NO_BLOB_SERVICE = "No blob service answers so: is there a proxy or a login page in between?"
"""Advice where an answer makes no sense."""
_BUSY = {"ServerBusy", "OperationTimedOut", "InternalError"}
_CORRUPT = {"Md5Mismatch", "Crc64Mismatch", "InvalidMd5"}
_EXISTS = {"BlobAlreadyExists", "UnauthorizedBlobOverwrite"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said, and to what."""

    store: str
    path: str
    status: int
    code: str
    message: str
    """The service's own text: used to tell kinds apart and never repeated (it may quote the request)."""
    headers: Mapping[str, str]
    sas: SasInfo
    needs: str
    """The permissions of the SAS of which the operation needs one, as single letters."""
    version: str


def service_error(answer: Answer) -> StoreError:
    """The store's error for an answer of the service."""
    error = _error_of(answer)
    error.fields.setdefault("fix", _what_to_do(answer.status, answer.code))
    return error


def _what_to_do(status: int, code: str) -> str:
    """Advice for the kinds of error that have none of their own."""
    if code in _WHAT_TO_DO:
        return _WHAT_TO_DO[code]
    if status == 404:
        return "Check the address of the container."
    if status == 413:
        return _WHAT_TO_DO["RequestBodyTooLarge"]
    if status < 400 or not code:
        return NO_BLOB_SERVICE
    return "If it says the same again, ask the operators of the service what it means."


def _error_of(answer: Answer) -> StoreError:
    store, path, status, code = answer.store, answer.path, answer.status, answer.code
    sas, needs = answer.sas, answer.needs
    about = f"{path}: " if path else ""
    if code == "InvalidHeaderValue" and (status == 400) and _about_version(answer.message):
        return ApiVersionError(
            store=store, version=answer.version, detail="it answered InvalidHeaderValue for x-ms-version"
        )
    if code == "ContainerNotFound":
        return NoSuchPlaceError(store=store, detail=_NOT_FOUND[code], path=path, kind="container")
    if code in _NOT_FOUND or status == 404:
        return StoreNotFoundError(store=store, detail=about + _NOT_FOUND.get(code, f"{code or 404}"), path=path)
    if code in _READ_ONLY:
        return StoreReadOnlyError(store=store, detail=about + _READ_ONLY[code])
    if code in _WRONG_TYPE:
        return StoreReadOnlyError(store=store, detail=about + _WRONG_TYPE[code])
    if code in _CORRUPT:
        return StoreCorruptError(store=store, detail=f"{about}the service computed another checksum ({code})")
    if code == "ConditionNotMet" and "w" not in needs:
        return StoreReplacedError(store=store, detail=f"{about}it was replaced while it was being read")
    if code == "ConditionNotMet":
        return StoreExistsError(store=store, detail=path, path=path)
    if code in _EXISTS and (status == 409 or not _lacks(sas, needs)):
        return StoreExistsError(store=store, detail=path, path=path)
    if status in {401, 403}:
        return _refused(store, about, sas, needs, status=status, code=code, moment=_service_time(answer.headers))
    if code in {"AccountQuotaExceeded", "InsufficientStorage", "StorageQuotaExceeded"} or status == 507:
        return StoreFullError(store=store, detail=f"{about}{code or status}")
    if status in BUSY or code in _BUSY:
        return StoreUnreachableError(
            store=store,
            detail=f"{about}the service is busy or failing ({status} {code})",
            status=status,
            retry_after_s=retry_after_s(answer.headers.get("Retry-After")),
        )
    return StoreError(store=store, detail=f"{about}the service answered HTTP {status} {code}".strip(), status=status)


def _about_version(message: str) -> bool:
    # The service names the header, where it has room for words: a HEAD request is answered without any.
    named = _HEADER_NAME.search(message)
    return named is None or named.group(1).lower() == "x-ms-version"


def _lacks(sas: SasInfo, needs: str) -> bool:
    return bool(needs) and all(sas.allows(letter) is False for letter in needs)


def _refused(
    store: str, about: str, sas: SasInfo, needs: str, *, status: int, code: str, moment: datetime
) -> StoreAccessError:
    answer = f"{status} {code}".strip()
    if (outside := _outside_its_time(sas, moment)) is not None:
        return SasExpiredError(store=store, detail=outside)
    if _lacks(sas, needs) or code == "AuthorizationPermissionMismatch":
        wanted = " or ".join(_PERMISSIONS.get(letter, letter) for letter in needs) or "more"
        has = ", ".join(sorted(_PERMISSIONS.get(letter, letter) for letter in sas.permissions)) or "nothing"
        return StorePermissionError(
            store=store, detail=f"{about}it needs {wanted}, the SAS has {has}", needs=needs, has=has
        )
    if sas.resource == "account" and "b" not in sas.services:
        return StorePermissionError(store=store, detail=f"{about}it was not made for the blob service")
    match code:
        case "":  # the service always gives one
            return StoreAccessError(
                store=store,
                detail=f"{about}HTTP {status} with no error code of a blob service",
                fix=f"{NO_BLOB_SERVICE} Have it let this machine through, or name the host in NO_PROXY.",
            )
        case "AuthorizationResourceTypeMismatch":
            return StorePermissionError(
                store=store, detail=f"{about}it was made for other resource types (it needs Container and Object)"
            )
        case "AuthorizationServiceMismatch":
            return StorePermissionError(store=store, detail=f"{about}it was not made for the blob service")
        case "AuthorizationProtocolMismatch":
            return SasError(store=store, detail="it was made for HTTPS only")
        case "AuthorizationSourceIPMismatch":
            return SasError(store=store, detail="it was made for another source address")
        case "AuthorizationFailure":
            return SasError(
                store=store,
                detail=f"{about}the service refuses it ({answer}): it belongs to another container or account, or the"
                " account's network rules do not let this machine in",
            )
        case _:
            return SasError(
                store=store,
                detail=f"the service refuses its signature ({answer}):"
                " it belongs to another container or account, its key was changed, or it was not copied whole",
            )


def _service_time(headers: Mapping[str, str]) -> datetime:
    """The service's own clock, which is the one that counts."""
    try:
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC)
    except (KeyError, ValueError, TypeError, OverflowError):
        return datetime.now(UTC)


def _outside_its_time(sas: SasInfo, moment: datetime) -> str | None:
    if sas.expires is not None and sas.expires <= moment:
        return f"it expired at {sas.expires:%Y-%m-%d %H:%M:%S} UTC; the service's clock says {moment:%Y-%m-%d %H:%M:%S}"
    if sas.starts is not None and moment < sas.starts:
        return (
            f"it begins only at {sas.starts:%Y-%m-%d %H:%M:%S} UTC; the service's clock says {moment:%Y-%m-%d %H:%M:%S}"
        )
    return None
