"""Reading a share: signed, and encrypted, beside smbclient and rclone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench._measure import Contender, interleave, table
from bench._workloads import one_file
from tests.support.samba import PASSWORD, Samba, running_samba


def run(base: Path, programs: Path, scale: float, runs: int) -> str:
    """The tables of both shares: one file of 1 GiB."""
    with running_samba(base / "samba") as samba:
        return "\n".join(_one(base, programs, samba, share, scale, runs) for share in ("bundles", "encrypted"))


def _one(base: Path, programs: Path, samba: Samba, share: str, scale: float, runs: int) -> str:
    work = one_file(samba.path(share) / "bench", scale)
    python = sys.executable
    place = samba.url(share, "bench")
    login = base / "login"
    login.write_text(f"username = collector\npassword = {PASSWORD}\ndomain = PEPTEST\n")
    login.chmod(0o600)
    hidden = subprocess.run(["rclone", "obscure", "-"], input=PASSWORD, capture_output=True, text=True, check=True)
    ours = {"PEP_BRIDGE_SHARE_PASSWORD": PASSWORD, "BENCH_USERNAME": samba.credential.username}
    rclone = {
        "RCLONE_CONFIG_BENCH_TYPE": "smb",
        "RCLONE_CONFIG_BENCH_HOST": samba.host,
        "RCLONE_CONFIG_BENCH_PORT": str(samba.port),
        "RCLONE_CONFIG_BENCH_USER": "collector",
        "RCLONE_CONFIG_BENCH_DOMAIN": "PEPTEST",
        "RCLONE_CONFIG_BENCH_PASS": hidden.stdout.strip(),
    }
    protection = "--client-protection=encrypt" if share == "encrypted" else "--client-protection=sign"
    out = base / "out"
    out.mkdir(exist_ok=True)
    contenders = [
        Contender("pep-bridge, reading", [python, "-m", "bench._ours", "read", place], ours),
        Contender("pep-bridge, sealing (SHA-256)", [python, "-m", "bench._ours", "hash", place], ours),
        Contender(
            "smbclient get",
            [
                "smbclient", f"//{samba.host}/{share}", "-p", str(samba.port), "-A", login, protection,
                "-c", "get bench/one.zip /dev/null",
            ],
        ),
        Contender("rclone", ["sh", "-c", f"rclone --config '' cat bench:{share}/bench/one.zip >/dev/null"], rclone),
    ]  # fmt: skip
    interleave(contenders, runs, programs, base / "log")
    title = f"Reading a share, {'encrypted' if share == 'encrypted' else 'signed'}"
    return table(title, contenders, work.size_bytes, base="smbclient get", files=work.files)
