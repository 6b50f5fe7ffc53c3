"""The format of a bundle: sealing, reading and verifying it (BagIt, RFC 8493, with the profile of docs/bundle.md)."""

from bridge.bundle._findings import Finding, FindingKind, Verdict, VerificationReport
from bridge.bundle._names import bundle_name, format_bundle_id, parse_bundle_id
from bridge.bundle._read import Bundle, PayloadFile, not_sealed, read_bundle
from bridge.bundle._report import render_report
from bridge.bundle._seal import OWN_FILES, FileDigest, SealedBundle, Unhashed, seal
from bridge.bundle._tags import DECLARATION, BagInfo
from bridge.bundle._verify import Hasher, VerifyProgress, verify

__all__ = [
    "DECLARATION",
    "OWN_FILES",
    "BagInfo",
    "Bundle",
    "FileDigest",
    "Finding",
    "FindingKind",
    "Hasher",
    "PayloadFile",
    "SealedBundle",
    "Unhashed",
    "Verdict",
    "VerificationReport",
    "VerifyProgress",
    "bundle_name",
    "format_bundle_id",
    "not_sealed",
    "parse_bundle_id",
    "read_bundle",
    "render_report",
    "seal",
    "verify",
]
