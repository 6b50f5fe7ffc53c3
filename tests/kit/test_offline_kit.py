"""The kits: installed as an ordinary user without a way out, complete for Windows, the same bytes each time."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge import __version__
from tests.support.command_line import ROOT
from tools.kit._archive import write_sums, write_tar, write_zip
from tools.kit._complete import find_gaps
from tools.kit._wheels import LINUX, PLATFORMS, WINDOWS, build_wheel, read_lock

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="not run: kits are made and tried on x86-64 Linux"
)
NOBODY = 65534
PYTHON = "3.11"


@pytest.fixture(scope="module")
def documentation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``make docs`` leaves it, with one page each."""
    folder = tmp_path_factory.mktemp("documentation")
    for name in ("man/pep-bridge.1", "site/index.html"):
        (folder / name).parent.mkdir()
        (folder / name).write_text(name, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def kits(documentation: Path) -> Iterator[Path]:
    """Both archives, where an ordinary user can read them (pytest's own folders are the owner's alone)."""
    with tempfile.TemporaryDirectory(prefix="pep-bridge-kit-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        make_kits(folder, documentation)
        yield folder


def make_kits(folder: Path, documentation: Path, *options: str) -> None:
    arguments = ["--python", PYTHON, "--documentation", str(documentation), *options, str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "tools.kit", *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def unpacked(kits: Path, name: str) -> Path:
    """The folder that an archive holds, unpacked afresh."""
    target = kits / f"unpacked-{name}"
    if not target.exists():
        archive = next(kits.glob(f"pep-bridge-*-{name}.*"))
        shutil.unpack_archive(archive, target, filter="data" if name == "linux" else None)
    (folder,) = target.iterdir()
    return folder


def need_python() -> str:
    """An interpreter that an ordinary user may start, of the version that the kit was made for."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    for found in ("/usr/bin/python3", f"/usr/bin/python{PYTHON}", f"/usr/local/bin/python{PYTHON}", sys.executable):
        answer = cut_off([found, "-c", code], Path("/")) if Path(found).exists() else None
        if answer is not None and answer.stdout.strip() == PYTHON:
            return found
    pytest.skip(f"not run: no Python {PYTHON} that an ordinary user may start")


def cut_off(command: list[str], home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a network namespace that has only its own loopback, as an ordinary user where we are root."""
    enter = [shutil.which("unshare") or "unshare", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    leave_root = [shutil.which("setpriv") or "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    loopback_up = (
        "import fcntl, os, socket, struct, sys\n"
        "request = struct.pack('16sh', b'lo', 0x1 | 0x40)\n"
        "fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, request)\n"
        "os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    inside = [sys.executable, "-c", loopback_up, *(leave_root if os.geteuid() == 0 else []), *command]
    given = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"} | environment
    return subprocess.run([*enter, *inside], capture_output=True, text=True, check=False, cwd=home, env=given)


@pytest.fixture
def home() -> Iterator[Path]:
    """The home of an ordinary user, in a machine without a way out."""
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("not run: no unshare and setpriv (util-linux)")
    with tempfile.TemporaryDirectory(prefix="pep-bridge-home-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        tried = cut_off(["true"], Path("/"))
        if tried.returncode:
            pytest.skip(f"not run: no network namespace may be made here ({tried.stderr.strip()})")
        yield folder


def test_there_is_no_way_out_of_the_namespace(home: Path) -> None:
    """The tests below prove nothing where this does not hold."""
    code = "import socket; print(socket.if_nameindex()); socket.create_connection(('192.0.2.1', 443), 5)"
    done = cut_off(["/usr/bin/env", "python3", "-c", code], home)
    if "No such file" in done.stderr and "python3" in done.stderr:
        pytest.skip("not run: no python3 for an ordinary user")
    assert done.stdout.strip() == "[(1, 'lo')]"
    assert "Network is unreachable" in done.stderr


def test_the_linux_kit_installs_and_works_without_network_as_an_ordinary_user(kits: Path, home: Path) -> None:
    python = need_python()
    installed = cut_off([str(unpacked(kits, "linux") / "install.sh")], home, PYTHON=python)
    assert installed.returncode == 0, installed.stderr
    assert installed.stdout.strip() == f"pep-bridge {__version__}"
    program = str(home / ".local" / "bin" / "pep-bridge")
    assert cut_off([program, "--version"], home).stdout.strip() == f"pep-bridge {__version__}"
    assert (home / ".local/share/pep-bridge/share/man/man1/pep-bridge.1").is_file()
    shown = cut_off([program, "demo", "--duration", "1s", "--size", "2MB", "--output", str(home / "out")], home)
    assert shown.returncode == 0, shown.stderr
    assert "verified: every byte agrees" in shown.stdout


def test_a_kit_that_was_changed_is_not_installed(kits: Path, home: Path, tmp_path: Path) -> None:
    python = need_python()
    changed = home / "changed"
    shutil.copytree(unpacked(kits, "linux"), changed)
    wheel = next((changed / "wheels").glob("rich-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b"x")
    done = cut_off([str(changed / "install.sh"), str(home / "there")], home, PYTHON=python)
    assert done.returncode == 1
    assert "fix: Copy it again" in done.stderr
    assert not (home / "there").exists()


def test_a_machine_without_python_is_told_what_to_do(kits: Path, home: Path) -> None:
    programs = home / "bin"
    programs.mkdir()
    for name in ("sh", "dirname", "sha256sum"):
        (programs / name).symlink_to(shutil.which(name) or name)
    done = cut_off([str(unpacked(kits, "linux") / "install.sh")], home, PATH=str(programs))
    assert done.returncode == 1
    assert "Python 3.11" in done.stderr
    assert "fix: " in done.stderr


@pytest.mark.parametrize("name", ["linux", "windows"])
def test_a_kit_holds_documentation_scripts_and_the_sums_of_all_its_files(kits: Path, name: str) -> None:
    folder = unpacked(kits, name)
    assert (folder / "docs" / "index.html").is_file()
    assert (folder / "INSTALL.md").is_file()
    assert {file.name for file in (folder / "scripts").iterdir()} == {
        file.name for file in (ROOT / "pep_scripts").glob("*.ps1")
    }
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    told = {path: digest for digest, path in (line.split("  ", 1) for line in lines)}
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()}
    assert set(told) == set(files) - {"SHA256SUMS"}
    for path, digest in told.items():
        assert hashlib.sha256(files[path].read_bytes()).hexdigest() == digest


@pytest.mark.parametrize("name", ["linux", "windows"])
def test_pip_finds_everything_for_the_platform_in_the_kit_alone(kits: Path, name: str, tmp_path: Path) -> None:
    """pip judges markers by this machine, but hashes and tags by the platform; the next test follows the markers."""
    folder = unpacked(kits, name)
    tags = [option for tag in PLATFORMS[name].tags for option in ("--platform", tag)]
    for_platform = ["--only-binary=:all:", "--python-version", PYTHON, *tags, "--target", str(tmp_path / "target")]
    offline = ["--isolated", "--no-index", "--find-links", str(folder / "wheels"), "--require-hashes"]
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    without_markers = [line.partition(" ;")[0] + " " + line[line.index("--hash") :] for line in lines]
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("\n".join(without_markers), encoding="utf-8")
    install = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps"]
    done = subprocess.run(
        [*install, *offline, *for_platform, "-r", str(wanted)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"pep-bridge-{__version__}" in done.stdout


@pytest.mark.parametrize("name", ["linux", "windows"])
def test_every_requirement_is_met_on_the_platform_itself(kits: Path, name: str) -> None:
    assert find_gaps(unpacked(kits, name) / "wheels", PLATFORMS[name], PYTHON, "pep-bridge") == []


def test_what_only_windows_needs_is_in_the_windows_kit(kits: Path) -> None:
    here = {file.name.partition("-")[0] for file in (unpacked(kits, "windows") / "wheels").iterdir()}
    there = {file.name.partition("-")[0] for file in (unpacked(kits, "linux") / "wheels").iterdir()}
    assert {"sspilib", "pywin32_ctypes", "colorama", "tzdata"} <= here - there
    assert {"secretstorage", "jeepney"} <= there - here


@pytest.mark.parametrize("missing", ["colorama", "cffi", "pywin32_ctypes"])
def test_a_wheel_that_is_missing_is_found_out(kits: Path, tmp_path: Path, missing: str) -> None:
    wheels = tmp_path / "wheels"
    shutil.copytree(unpacked(kits, "windows") / "wheels", wheels)
    next(wheels.glob(f"{missing}-*.whl")).unlink()
    gaps = find_gaps(wheels, WINDOWS, PYTHON, "pep-bridge")
    assert any(missing.replace("_", "-") in gap for gap in gaps)


def test_wheels_of_another_python_do_not_count(kits: Path) -> None:
    gaps = find_gaps(unpacked(kits, "linux") / "wheels", LINUX, "3.14", "pep-bridge")
    assert any(gap.startswith("pydantic-core") for gap in gaps)


def test_the_programs_own_wheel_made_twice_is_the_same_bytes(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("bridge", "cli", "pep_scripts"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copyfile(ROOT / name, project / name)
    made = []
    for number in (1, 2):
        for file in project.rglob("*.py"):
            os.utime(file, (number * 1e9, number * 1e9))
        build_wheel(project, tmp_path / str(number), epoch_s=1_700_000_000)
        (wheel,) = (tmp_path / str(number)).glob("*.whl")
        made.append(wheel.read_bytes())
    assert made[0] == made[1]


def test_archives_do_not_depend_on_times_or_the_order_of_creation(tmp_path: Path) -> None:
    epoch_s = int(datetime(2026, 11, 23, tzinfo=UTC).timestamp())
    made = []
    for number, order in enumerate((("a", "b", "run.sh"), ("run.sh", "b", "a"))):
        folder = tmp_path / str(number) / "kit"
        folder.mkdir(parents=True)
        for name in order:
            (folder / name).write_text(name, encoding="utf-8")
            os.utime(folder / name, (number, number))
        write_sums(folder)
        write_tar(folder, folder.parent / "kit.tar.gz", epoch_s=epoch_s)
        write_zip(folder, folder.parent / "kit.zip", epoch_s=epoch_s)
        made.append(((folder.parent / "kit.tar.gz").read_bytes(), (folder.parent / "kit.zip").read_bytes()))
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "0" / "kit.tar.gz") as archive:
        assert {member.name: member.mode for member in archive}["kit/run.sh"] == 0o755
    with zipfile.ZipFile(tmp_path / "0" / "kit.zip") as packed:
        assert packed.namelist() == ["kit/SHA256SUMS", "kit/a", "kit/b", "kit/run.sh"]


def test_every_pin_of_the_lock_files_has_hashes_and_one_version() -> None:
    for name in ("runtime.txt", "kit.txt"):
        pins = read_lock(ROOT / "requirements" / name)
        assert pins
        assert [pin.requirement.name for pin in pins if not pin.hashes or not pin.version] == []


@pytest.mark.engine
def test_the_installer_for_windows_is_powershell(kits: Path, pwsh: str) -> None:
    installer = unpacked(kits, "windows") / "install.ps1"
    assert b"\r\n" in installer.read_bytes()
    parse = (
        "$tokens = $problems = $null; [void][System.Management.Automation.Language.Parser]::ParseFile("
        f"'{installer}', [ref]$tokens, [ref]$problems); $problems.Count; $tokens.Count"
    )
    done = subprocess.run([pwsh, "-Command", parse], capture_output=True, text=True, check=True)
    problems, tokens = map(int, done.stdout.split())
    assert problems == 0
    assert tokens > 100
