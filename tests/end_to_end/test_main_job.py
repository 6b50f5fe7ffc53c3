"""The main job from the command line: a simulated stamp, a real share, a real container, and what goes wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import bagit
import pytest

from bridge.errors import ExitCode
from tests.support.azurite import Azurite
from tests.support.command_line import Done, Rehearsal, rehearsal, run
from tests.support.samba import Samba

ROLES = ("--role", "Storage,ACS,SeedRing")
CLOCK = "2026-11-20T13:00:00+01:00"
WINDOW = ("--since", "2026-11-20T08:00+00:00", "--until", "2026-11-20T12:00+00:00")


@pytest.fixture(scope="module")
def stamp(tmp_path_factory: pytest.TempPathFactory, samba: Samba) -> Iterator[Rehearsal]:
    options = ("--duration", "1s", "--size", "6MB", "--seed", "3", "--smb-port", str(samba.port), "--clock", CLOCK)
    with rehearsal(tmp_path_factory.mktemp("stamp"), *options) as found:
        found.secrets["PEP_BRIDGE_SHARE_PASSWORD"] = samba.credential.password.reveal()
        yield found


def to_share(stamp: Rehearsal, samba: Samba, folder: str, *more: str) -> Done:
    place = samba.url("bundles") + "/" + folder
    return stamp.run(
        "collect", stamp.stamp, *WINDOW, *ROLES, "--to", place, "--share-username", samba.credential.username,
        "--json", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def on_share(stamp: Rehearsal, samba: Samba) -> Done:
    done = to_share(stamp, samba, "main-job")
    assert done.returncode == ExitCode.OK, done.stderr
    return done


@pytest.fixture(scope="module")
def bundle(on_share: Done, samba: Samba) -> Path:
    return samba.path("bundles") / "main-job" / str(on_share.data["bundle_name"])


def manifest(azurite: Azurite, container: str, bundle_name: str) -> str:
    """The text of a bundle's manifest in a container."""
    blob = azurite.owner(container).download_blob(f"{bundle_name}/manifest-sha256.txt")
    return blob.readall().decode()


def test_a_collection_to_a_share_leaves_a_sealed_bundle_with_full_coverage(on_share: Done, bundle: Path) -> None:
    assert {role["name"]: role["state"] for role in on_share.data["coverage"]["roles"]} == {
        "Storage": "collected",
        "ACS": "collected",
        "SeedRing": "collected",
    }
    names = {path.name for path in bundle.iterdir()}
    assert {"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"} <= names
    assert {"data", "collection.json", "coverage.json", "session.jsonl"} <= names


def test_bagit_and_sha256sum_accept_the_bundle_without_this_project(bundle: Path) -> None:
    bagit.Bag(str(bundle)).validate()
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "manifest-sha256.txt"],
        cwd=bundle,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_share_and_container_hold_the_same_payload(
    stamp: Rehearsal, samba: Samba, azurite: Azurite, bundle: Path
) -> None:
    container = azurite.new_container()
    done = stamp.run(
        "collect", stamp.stamp, *WINDOW, *ROLES,
        "--to", azurite.container_url(container), "--staging", samba.url("bundles") + "/staging",
        "--share-username", samba.credential.username, "--json",
        PEP_BRIDGE_SAS=azurite.sas(container).reveal(),
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    on_share = (bundle / "manifest-sha256.txt").read_text(encoding="utf-8")
    assert "/Get-AzureStackLog_Output.log" in on_share
    assert manifest(azurite, container, done.data["bundle_name"]) == on_share
    verified = stamp.run("verify", done.data["bundle"], "--json", PEP_BRIDGE_SAS=azurite.sas(container).reveal())
    assert verified.returncode == ExitCode.OK, verified.stderr
    assert verified.data["bundle_id"] == done.data["bundle_id"]


def test_a_direct_collection_says_what_it_could_check(stamp: Rehearsal, azurite: Azurite, bundle: Path) -> None:
    container = azurite.new_container()
    done = stamp.run(
        "collect", stamp.stamp, *WINDOW, *ROLES, "--to", azurite.container_url(container), "--direct", "--json",
        PEP_BRIDGE_SAS=azurite.sas(container, permissions="rwlac").reveal(),
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    on_share = (bundle / "manifest-sha256.txt").read_text(encoding="utf-8")
    assert manifest(azurite, container, done.data["bundle_name"]) == on_share


def test_a_finished_bundle_is_delivered_and_nothing_is_sent_twice(
    stamp: Rehearsal, samba: Samba, azurite: Azurite, on_share: Done
) -> None:
    container = azurite.new_container()
    place = samba.url("bundles") + "/main-job/" + on_share.data["bundle_name"]
    arguments = (
        "deliver", place, "--to", azurite.container_url(container),
        "--share-username", samba.credential.username, "--json",
    )  # fmt: skip
    sas = azurite.sas(container).reveal()
    first = stamp.run(*arguments, PEP_BRIDGE_SAS=sas)
    assert first.returncode == ExitCode.OK, first.stderr
    assert first.data["bundle_id"] == on_share.data["bundle_id"]
    second = stamp.run(*arguments, PEP_BRIDGE_SAS=sas)
    assert second.returncode == ExitCode.OK, second.stderr
    assert second.data["bytes_sent"] == 0


@pytest.mark.parametrize(
    ("harm", "finding"),
    [
        ("flip", "changed"),
        ("remove", "missing"),
        ("add", "unexpected"),
        ("cut", "wrong-size"),
        ("unseal", "not-sealed"),
    ],
)
def test_each_harm_to_a_bundle_is_found_and_named(bundle: Path, tmp_path: Path, harm: str, finding: str) -> None:
    copy = tmp_path / bundle.name
    shutil.copytree(bundle, copy)
    victim = sorted(path for path in (copy / "data").rglob("*.zip"))[0]
    name = victim.relative_to(copy).as_posix()
    content = bytearray(victim.read_bytes())
    match harm:
        case "flip":
            content[len(content) // 2] ^= 1
            victim.write_bytes(content)
        case "remove":
            victim.unlink()
        case "add":
            name = "data/added.txt"
            (copy / name).write_text("x", encoding="utf-8")
        case "cut":
            victim.write_bytes(content[:-1])
        case _:
            name = "bagit.txt"
            (copy / name).unlink()
    done = run("verify", str(copy), "--json")
    assert done.returncode == ExitCode.VERIFICATION
    assert (finding, name) in {(found["kind"], found["path"]) for found in done.data["findings"]}


def test_a_wrong_password_is_exit_code_4_and_is_tried_once(stamp: Rehearsal, tmp_path: Path) -> None:
    done = stamp.run("collect", stamp.stamp, "--to", str(tmp_path), PEP_BRIDGE_PASSWORD="not the password")
    assert done.returncode == ExitCode.AUTHENTICATION
    assert "password" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_endpoint_that_does_not_answer_is_exit_code_3(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        "[stamps.dead]\nendpoints = [{host='127.0.0.1', port=9}]\nusername='A\\\\b'\nshared_disk = true\n".replace(
            "'A\\\\b'", "'A\\b'"
        ),
        encoding="utf-8",
    )
    before = ("--config", str(config), "--state-dir", str(tmp_path / "state"))
    done = run(
        *before, "collect", "dead", "--to", str(tmp_path / "out"),
        PEP_BRIDGE_PASSWORD="x" * 12,
    )  # fmt: skip
    assert done.returncode == ExitCode.UNREACHABLE, done.stderr
    assert "127.0.0.1" in done.stderr


def test_a_parameter_that_the_endpoint_does_not_know_is_exit_code_5(stamp: Rehearsal, tmp_path: Path) -> None:
    script = tmp_path / "wrong.ps1"
    script.write_text("Get-AzureStackLog -FilterByRol1 Storage\n", encoding="utf-8")
    done = stamp.run("run", str(script), stamp.stamp)
    assert done.returncode == ExitCode.NOT_PERMITTED, done.stderr
    assert "FilterByRol1" in done.stderr or "filterbyrol1" in done.stderr


def test_script_text_is_refused_before_it_is_sent(stamp: Rehearsal, tmp_path: Path) -> None:
    script = tmp_path / "script.ps1"
    script.write_text("Get-AzureStackLog -FromDate (Get-Date).AddHours(-8)\n", encoding="utf-8")
    done = stamp.run("run", str(script), stamp.stamp)
    assert done.returncode == ExitCode.USAGE
    assert f"{script}:1:" in done.stderr


def test_a_role_without_output_is_exit_code_8_and_named(tmp_path: Path) -> None:
    with rehearsal(tmp_path, "--duration", "1s", "--size", "4MB", "--fault", "role-fails:Storage") as stamp:
        done = stamp.run("collect", stamp.stamp, "--role", "Storage,ACS", "--to", str(tmp_path / "out"), "--json")
        assert done.returncode == ExitCode.PARTIAL, done.stderr
        states = {role["name"]: role["state"] for role in done.data["coverage"]["roles"]}
        assert states["ACS"] == "collected"
        assert states["Storage"] in {"failed", "empty", "skipped"}
        verified = stamp.run("verify", done.data["bundle"])
        assert verified.returncode == ExitCode.OK


@pytest.mark.parametrize(
    ("permissions", "said"), [("rl", "write"), ("rwl-expired", "not valid now")], ids=["no write", "expired"]
)
def test_a_sas_that_cannot_work_is_refused_before_the_endpoint_is_bothered(
    stamp: Rehearsal, samba: Samba, azurite: Azurite, permissions: str, said: str
) -> None:
    from datetime import timedelta

    container = azurite.new_container()
    expires = timedelta(hours=-1) if "expired" in permissions else timedelta(hours=8)
    sas = azurite.sas(container, permissions=permissions.partition("-")[0], expires_in=expires).reveal()
    done = stamp.run(
        "collect", stamp.stamp, *ROLES, "--to", azurite.container_url(container),
        "--staging", samba.url("bundles") + "/staging", "--share-username", samba.credential.username, "--json",
        PEP_BRIDGE_SAS=sas,
    )  # fmt: skip
    assert done.returncode in {ExitCode.PREFLIGHT, ExitCode.DELIVERY}, done.stderr
    assert said in done.stderr.lower()
    assert azurite.owner(container).get_container_properties()
    assert list(azurite.owner(container).list_blobs()) == []


@pytest.mark.parametrize("share", ["readonly", "wrong-password"])
def test_a_share_that_cannot_be_written_is_told_in_its_own_words(stamp: Rehearsal, samba: Samba, share: str) -> None:
    password = "wrong" if share == "wrong-password" else samba.credential.password.reveal()
    done = stamp.run(
        "collect", stamp.stamp, *ROLES, "--to", samba.url("readonly" if share == "readonly" else "bundles"),
        "--share-username", samba.credential.username, PEP_BRIDGE_SHARE_PASSWORD=password,
    )  # fmt: skip
    assert done.returncode in {ExitCode.PREFLIGHT, ExitCode.DELIVERY}, done.stderr
    assert "Traceback" not in done.stderr


def test_no_known_secret_is_in_anything_that_was_written(
    stamp: Rehearsal, samba: Samba, azurite: Azurite, bundle: Path, tmp_path: Path
) -> None:
    container = azurite.new_container()
    sas = azurite.sas(container, permissions="rwlac").reveal()
    done = stamp.run(
        "collect", stamp.stamp, *WINDOW, *ROLES, "--to", azurite.container_url(container), "--direct",
        PEP_BRIDGE_SAS=sas,
    )  # fmt: skip
    assert done.returncode == ExitCode.OK, done.stderr
    signature = sas.partition("sig=")[2].partition("&")[0]
    known = [
        stamp.ready["password"], samba.credential.password.reveal(), signature, signature.replace("%2B", "+"),
    ]  # fmt: skip
    written = [done.stdout.encode(), done.stderr.encode()]
    for folder in (stamp.state_dir, *(path for path in bundle.iterdir() if path.name != "data")):
        files = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
        written += [path.read_bytes() for path in files]
    for blob in azurite.owner(container).list_blobs():
        written.append(azurite.owner(container).download_blob(blob.name).readall())
    assert len(written) > 20
    for secret in known:
        assert all(secret.encode() not in content for content in written), secret[:3]
        assert all(secret.encode("utf-16-le") not in content for content in written), secret[:3]


def test_no_secret_stands_in_the_process_list_while_a_collection_runs(stamp: Rehearsal, samba: Samba) -> None:
    import psutil

    place = samba.url("bundles") + "/process-list"
    process = stamp.start(
        "collect", stamp.stamp, *WINDOW, *ROLES, "--to", place, "--share-username", samba.credential.username
    )
    seen: set[str] = set()
    while process.poll() is None:
        for found in psutil.process_iter(["cmdline"]):
            seen.add(" ".join(found.info["cmdline"] or ()))
    process.communicate()
    assert process.returncode == ExitCode.OK
    assert any("process-list" in line for line in seen)
    for secret in (stamp.ready["password"], samba.credential.password.reveal()):
        assert not any(secret in line for line in seen)
    assert os.environ.get("PEP_BRIDGE_SHARE_PASSWORD") is None
