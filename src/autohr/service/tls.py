"""Encryption of the local page, without which browsers give no camera to other machines than this one."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import tempfile
from pathlib import Path

from autohr.errors import AutoHRError

VALID_DAYS = 90
"""Life of a certificate made here, which nobody but this process has: longer than any session."""


def load_certificate(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    """Return the settings of a server with this certificate; without ``key`` the file holds both.

    Raises
    ------
    AutoHRError
        A file cannot be read, is no certificate or key, or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An encrypted key would ask in the terminal for its word.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        files = str(certificate) if key is None else f"{certificate} and {key}"
        reason = "they are no pair of PEM files, or encrypted" if isinstance(error, ssl.SSLError) else error.strerror
        raise AutoHRError(f"Cannot use {files}: {reason}. Give a certificate and its key as PEM.") from None
    return context


def make_certificate(host: str) -> tuple[ssl.SSLContext, str]:
    """Return the settings of a server with a new certificate for the names of this machine, and its fingerprint.

    Raises
    ------
    ModuleNotFoundError
        cryptography is not installed.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    names: list[x509.GeneralName] = []
    for name in dict.fromkeys(own_names(host)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    key = ec.generate_private_key(ec.SECP256R1())
    title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "autohr serve")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(title)
        .issuer_name(title)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # The ssl module reads only files. Nobody else may enter the folder, and it is gone at once.
    with tempfile.TemporaryDirectory(prefix="autohr-") as folder:
        path = Path(folder) / "both.pem"
        path.write_bytes(secret + certificate.public_bytes(pem))
        context = load_certificate(path)
    return context, certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def own_names(host: str) -> list[str]:
    """Return the names and addresses under which this machine can be reached."""
    name = socket.gethostname().lower()
    names = ["localhost", "127.0.0.1", "::1", name, name.removesuffix(".local") + ".local", lan_address()]
    if host not in ("0.0.0.0", "::"):
        names.append(host.strip("[]"))
    return [one for one in names if one and one.isascii()]


def lan_address() -> str | None:
    """Return the address of this machine in its network, None without a network."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # This only chooses a way, and sends nothing. The address is one for documentation (RFC 5737).
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return None


def qr_code(text: str) -> str | None:
    """Return a QR code as lines for a terminal; None if segno is not installed."""
    try:
        import segno
    except ModuleNotFoundError:
        return None
    rows = [[bool(cell) for cell in row] for row in segno.make(text, error="l", micro=False).matrix_iter(border=2)]
    rows += [[False] * len(rows[0])] * (len(rows) % 2)
    # Two rows a line. Light is drawn, dark is left: most terminals are dark, and cameras read both.
    blocks = {(True, True): " ", (True, False): "▄", (False, True): "▀", (False, False): "█"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(blocks[pair] for pair in zip(*both, strict=True)) for both in pairs)
