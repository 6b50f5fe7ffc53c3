"""The certificate of a simulated endpoint: given, or made for the occasion."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from spnego.channel_bindings import GssChannelBindings


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """PEM files of certificate (with its chain) and key; without them a self-signed certificate is made.

    ``strict_channel_binding`` is CbtHardeningLevel Strict: Negotiate must be bound to the TLS channel (RFC 5929).
    Without it no binding is looked at, which lets clients in that cannot bind (curl).
    """

    certificate: Path | None = None
    key: Path | None = None
    strict_channel_binding: bool = True


def server_identity(options: TlsOptions, names: Sequence[str]) -> tuple[ssl.SSLContext, GssChannelBindings | None, str]:
    """The TLS context, the channel binding that Negotiate must carry (RFC 5929 4), and the certificate as PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.certificate is not None and options.key is not None:
        context.load_cert_chain(options.certificate, options.key)
        pem = options.certificate.read_text(encoding="ascii")
    else:
        pem, key = _self_signed(names)
        with tempfile.TemporaryDirectory(prefix="pep-bridge-tls-") as folder:
            certificate_file, key_file = Path(folder) / "certificate.pem", Path(folder) / "key.pem"
            certificate_file.write_text(pem, encoding="ascii")
            key_file.write_text(key, encoding="ascii")
            context.load_cert_chain(certificate_file, key_file)
    return context, _bindings(pem) if options.strict_channel_binding else None, pem


def _bindings(pem: str) -> GssChannelBindings:
    first = pem[: pem.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----\n")]
    certificate = x509.load_pem_x509_certificate(first.encode())
    algorithm = certificate.signature_hash_algorithm
    # RFC 5929 4.1: MD5 and SHA-1 are replaced by SHA-256.
    name = "sha256" if algorithm is None or algorithm.name in ("md5", "sha1") else algorithm.name
    digest = hashlib.new(name, certificate.public_bytes(serialization.Encoding.DER)).digest()
    return GssChannelBindings(application_data=b"tls-server-end-point:" + digest)


def _self_signed(names: Sequence[str]) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
