"""Each fault that is injected is found by its own check, with the fix that names the right thing; the others stand."""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from bridge.collection import Journal, Place, Request, RunState
from bridge.collection._lock import LockSettings, StampLock
from bridge.credentials import Sources, find_secret
from bridge.doctor import Check, CheckState, Diagnosis, RouteKind, Subject, examine
from bridge.errors import BridgeError, ConfigurationError, ExitCode
from bridge.secrets import Credential, Secret
from bridge.simulator import ProtocolFaults
from bridge.simulator.stamp import SimulatedStamp, StampOptions
from bridge.stamp import EndpointAddress, Stamp
from bridge.store import FolderStore
from tests.support.azurite import Azurite
from tests.support.samba import Samba
from tests.support.simulated_endpoint import WRITE_MANY, stamp_of
from tests.support.tcp_proxy import TcpProxy
from tests.support.web_server import web_server

MakeSubject = Callable[..., Subject]
RequestTo = Callable[..., Request]


def find(diagnosis: Diagnosis, name: str) -> Check:
    return next(check for check in diagnosis.checks if check.name == name)


def states(diagnosis: Diagnosis, *, but: tuple[str, ...] = ()) -> set[str]:
    """The states of all other checks."""
    return {str(check.state) for check in diagnosis.checks if check.name not in but}


def only_failed(diagnosis: Diagnosis, name: str) -> Check:
    """The one check that failed; every other was made and is ok, or could not be made for want of it."""
    assert [check.name for check in diagnosis.failed] == [name], diagnosis.failed
    return diagnosis.failed[0]


def only_warned(diagnosis: Diagnosis, name: str) -> Check:
    assert [check.name for check in diagnosis.checks if check.state == "warning"] == [name], diagnosis.checks
    assert diagnosis.exit_code == ExitCode.OK
    return find(diagnosis, name)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def moved(stamp: Stamp, *ports: int) -> Stamp:
    """The stamp with its machines at other ports, the first as many as ports are given."""
    machines = list(stamp.endpoints)
    for number, port in enumerate(ports):
        machines[number] = replace(machines[number], host="127.0.0.1", port=port)
    return replace(stamp, endpoints=tuple(machines))


# -- a healthy stamp --------------------------------------------------------------------------------------------------


def test_a_healthy_stamp_passes_every_check_and_the_portal_is_the_route(subject: MakeSubject) -> None:
    diagnosis = examine(subject())
    assert states(diagnosis) == {"ok"}, diagnosis.checks
    assert diagnosis.exit_code == ExitCode.OK
    assert diagnosis.route.kind is RouteKind.PORTAL
    assert "Help + support" in diagnosis.route.reason


def test_nothing_is_changed_on_the_stamp_and_no_probe_is_left(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    assert stamp.options.output_root is not None
    before = sorted(stamp.options.output_root.rglob("*"))
    calls = len(stamp.state.calls)
    examine(subject())
    assert sorted(stamp.options.output_root.rglob("*")) == before
    assert {call.name for call in stamp.state.calls[calls:]} == {"Get-AzureStackSupportConfiguration"}


# -- the endpoint -----------------------------------------------------------------------------------------------------


def test_one_machine_that_is_down_is_a_warning(subject: MakeSubject) -> None:
    healthy = subject()
    check = only_warned(examine(replace(healthy, stamp=moved(healthy.stamp, closed_port()))), "ercs:AzS-ERCS01")
    assert "TCP" in check.fix


def test_three_machines_that_are_down_make_the_stamp_unreachable(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    stamp.portal.take_down()
    healthy = subject()
    diagnosis = examine(replace(healthy, stamp=moved(healthy.stamp, closed_port(), closed_port(), closed_port())))
    assert [check.name for check in diagnosis.failed] == [f"ercs:AzS-ERCS0{number}" for number in (1, 2, 3)]
    assert find(diagnosis, "session").state == "skipped"
    assert find(diagnosis, "destination").state == "ok"
    assert diagnosis.exit_code == ExitCode.UNREACHABLE
    assert diagnosis.route.kind is RouteKind.UNREACHABLE
    assert "ERCS" in diagnosis.route.next_step


def test_a_machine_that_takes_connections_and_says_nothing_is_found(subject: MakeSubject) -> None:
    healthy = subject()
    first = healthy.stamp.endpoints[0]
    with TcpProxy(first.host, first.port) as line:
        line.stall()
        check = only_warned(examine(replace(healthy, stamp=moved(healthy.stamp, line.port))), "ercs:AzS-ERCS01")
    assert "answer" in check.evidence


def test_a_machine_that_resets_connections_is_found(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    stamp.servers[1].faults = ProtocolFaults(refuse_connections=True)
    assert only_warned(examine(subject()), "ercs:AzS-ERCS02").fix


def test_a_web_server_that_is_no_winrm_service_is_told_apart(subject: MakeSubject) -> None:
    healthy = subject()
    with web_server() as address:
        port = int(address.rpartition(":")[2])
        lonely = replace(healthy.stamp, endpoints=(EndpointAddress("ERCS01", "127.0.0.1", port),))
        diagnosis = examine(replace(healthy, stamp=lonely))
    check = only_failed(diagnosis, "ercs:ERCS01")
    assert "not as a Windows Remote Management service" in check.evidence
    assert "5985" in check.fix
    assert diagnosis.exit_code == ExitCode.UNREACHABLE


class PasswordWatch(TcpProxy):
    """Sees each proof of a password that passes: an AUTHENTICATE message (MS-NLMP 2.2.1.3) in an HTTP request."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.proofs: set[bytes] = set()

    def _pass_on(self, pair: Any, upwards: bool) -> bool:
        if upwards:
            for found in _NEGOTIATE.finditer(pair.client.recv(256 * 1024, socket.MSG_PEEK)):
                token = base64.b64decode(found[1])
                if b"NTLMSSP\0\3\0\0\0" in token:
                    self.proofs.add(token)
        return super()._pass_on(pair, upwards)


_NEGOTIATE = re.compile(rb"Authorization: Negotiate ([A-Za-z0-9+/=]+)\r\n", re.IGNORECASE)


def test_a_wrong_password_is_sent_once(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    healthy = subject()
    with ExitStack() as stack:
        lines = [PasswordWatch(each.host, each.port) for each in stamp.endpoints]
        for line in lines:
            stack.enter_context(line)
        wrong = Credential(stamp.username, Secret("not the password"))
        checked = replace(healthy, stamp=moved(healthy.stamp, *(line.port for line in lines)), credential=wrong)
        diagnosis = examine(checked)
        sent = [len(line.proofs) for line in lines]
    check = only_failed(diagnosis, "session")
    assert "password" in check.fix
    assert "locked out" in check.fix
    assert diagnosis.exit_code == ExitCode.AUTHENTICATION
    assert sent == [1, 0, 0]


def test_a_wrong_configuration_name_is_no_ercs_machine(subject: MakeSubject) -> None:
    healthy = subject()
    diagnosis = examine(replace(healthy, stamp=replace(healthy.stamp, configuration_name="Microsoft.PowerShell")))
    check = only_failed(diagnosis, "session")
    assert "Microsoft.PowerShell" in check.evidence
    assert "ERCS" in check.fix
    assert diagnosis.exit_code == ExitCode.UNREACHABLE


def test_a_used_up_quota_asks_for_stale_sessions_to_be_closed(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    for server in stamp.servers:
        server.faults = ProtocolFaults(quota_exceeded=True)
    diagnosis = examine(subject())
    assert "stale sessions" in only_failed(diagnosis, "session").fix
    assert diagnosis.exit_code == ExitCode.BUSY


def test_an_account_without_access_is_not_called_a_wrong_host(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    for server in stamp.servers:
        server.faults = ProtocolFaults(access_denied=True)
    diagnosis = examine(subject())
    assert only_failed(diagnosis, "session").fix
    assert diagnosis.exit_code in {ExitCode.AUTHENTICATION, ExitCode.NOT_PERMITTED}


def test_a_self_signed_certificate_asks_for_its_authority(subject: MakeSubject) -> None:
    with SimulatedStamp(StampOptions(name="tls"), https=True) as secure:
        healthy = subject()
        untrusted = replace(healthy.stamp, endpoints=secure.endpoints[:1], use_https=True, ca_file=None)
        diagnosis = examine(replace(healthy, stamp=untrusted))
    check = only_failed(diagnosis, "ercs:AzS-ERCS01")
    assert "certificate" in check.evidence
    assert "ca_file" in check.fix


def test_an_endpoint_without_the_collecting_command_is_not_permitted(subject: MakeSubject) -> None:
    from bridge.simulator import Account, EndpointServer

    healthy = subject()
    assert isinstance(healthy.credential, Credential)
    account = Account(healthy.credential.username, healthy.credential.password)
    with EndpointServer((WRITE_MANY,), accounts=(account,)) as server:
        diagnosis = examine(replace(healthy, stamp=stamp_of(server)))
    check = only_failed(diagnosis, "commands")
    assert "CloudAdmin" in check.fix
    assert diagnosis.exit_code == ExitCode.NOT_PERMITTED


def test_a_stamp_that_is_not_registered_is_saved_locally(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    stamp.portal.take_down()
    with SimulatedStamp(StampOptions(name="alone", faults=("not-registered",))) as alone:
        healthy = subject()
        diagnosis = examine(replace(healthy, stamp=replace(healthy.stamp, endpoints=alone.endpoints)))
    assert find(diagnosis, "registration").state == "warning"
    assert "save locally" in find(diagnosis, "registration").fix
    assert diagnosis.route.kind is RouteKind.SAVE
    assert "not registered" in diagnosis.route.reason
    assert "pep-bridge collect" in diagnosis.route.next_step


def test_what_a_machine_says_of_itself_cannot_write_to_the_terminal() -> None:
    check = Check("ercs:x", CheckState.OK, "answers as \x1b[2Jevil\n" + "x" * 10_000)
    assert check.evidence.isprintable()
    assert len(check.evidence) < 1100


# -- portal, ARM, internet, clock -------------------------------------------------------------------------------------


def test_with_the_portal_down_a_connected_stamp_sends(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    stamp.portal.take_down()
    diagnosis = examine(subject())
    assert find(diagnosis, "portal").state == "warning"
    assert "privileged endpoint" in find(diagnosis, "portal").fix
    assert diagnosis.exit_code == ExitCode.OK
    assert diagnosis.route.kind is RouteKind.SEND
    assert f"pep-bridge send {stamp.name}" in diagnosis.route.next_step


def test_without_a_way_to_the_internet_the_route_is_to_save(subject: MakeSubject, stamp: SimulatedStamp) -> None:
    stamp.portal.take_down()
    diagnosis = examine(subject(internet_probe=f"http://127.0.0.1:{closed_port()}"))
    assert find(diagnosis, "internet").state == "warning"
    assert "--internet-probe" in find(diagnosis, "internet").fix
    assert diagnosis.exit_code == ExitCode.OK
    assert diagnosis.route.kind is RouteKind.SAVE
    assert "no way to the internet" in diagnosis.route.reason


def test_a_portal_that_answers_503_is_down(subject: MakeSubject) -> None:
    with web_server(status=503) as address:
        diagnosis = examine(subject(portal=address))
    assert "HTTP status 503" in only_warned(diagnosis, "portal").evidence
    assert diagnosis.route.kind is not RouteKind.PORTAL


def test_a_portal_without_its_arm_endpoint_is_not_the_route(subject: MakeSubject) -> None:
    with web_server() as address:
        diagnosis = examine(subject(arm=address))
    assert "not with ARM's metadata" in only_warned(diagnosis, "arm").evidence
    assert diagnosis.route.kind is RouteKind.SEND
    assert "ARM endpoint that it needs is down" in diagnosis.route.reason


def tls_server(authority: trustme.CA, expires: datetime | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    begins = expires - timedelta(days=30) if expires else None
    authority.issue_cert("127.0.0.1", not_before=begins, not_after=expires).configure_cert(context)
    return context


def test_a_portal_of_an_unknown_authority_is_up(subject: MakeSubject) -> None:
    with web_server(tls=tls_server(trustme.CA())) as address:
        diagnosis = examine(subject(portal=address))
    assert "ca_file" in only_warned(diagnosis, "portal").fix
    assert diagnosis.route.kind is RouteKind.PORTAL


def test_a_portal_whose_certificate_has_expired_is_down_for_browsers(subject: MakeSubject, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with web_server(tls=tls_server(authority, datetime.now(UTC) - timedelta(days=1))) as address:
        healthy = subject(portal=address)
        diagnosis = examine(replace(healthy, stamp=replace(healthy.stamp, ca_file=tmp_path / "ca.pem")))
    assert "expired" in only_warned(diagnosis, "portal").evidence
    assert diagnosis.route.kind is not RouteKind.PORTAL


def test_an_unknown_portal_address_asks_for_region_and_domain(subject: MakeSubject) -> None:
    healthy = subject(portal=None, arm=None)
    diagnosis = examine(replace(healthy, stamp=replace(healthy.stamp, external_fqdn=None)))
    assert find(diagnosis, "portal").state == "skipped"
    assert "external_fqdn" in find(diagnosis, "portal").fix
    assert "look yourself" in diagnosis.route.reason


def test_the_addresses_of_portal_and_arm_follow_from_region_and_domain(subject: MakeSubject) -> None:
    bare = replace(subject(portal=None, arm=None), stamp=Stamp("s", (), region="east", external_fqdn="contoso.com"))
    assert bare.portal_address == "https://adminportal.east.contoso.com"
    assert bare.arm_address == "https://adminmanagement.east.contoso.com"
    whole = replace(bare, stamp=replace(bare.stamp, external_fqdn="east.contoso.com"))
    assert whole.portal_address == bare.portal_address


@pytest.mark.parametrize(("skew_s", "state"), [(150, "warning"), (-600, "failed")])
def test_a_stamp_whose_clock_is_wrong_is_told_apart(
    subject: MakeSubject, stamp: SimulatedStamp, skew_s: float, state: str
) -> None:
    for server in stamp.servers:
        server.faults = ProtocolFaults(clock_skew_s=skew_s)
    check = find(examine(subject()), "clock")
    assert check.state == state
    assert "The stamp's clock is wrong" in check.fix


def test_this_machines_own_wrong_clock_is_told_apart(subject: MakeSubject) -> None:
    check = only_failed(examine(subject(), now=lambda: datetime.now(UTC) + timedelta(minutes=12)), "clock")
    assert "Set this machine's clock" in check.fix
    assert re.search(r"AzS-ERCS01 7[12]\d s behind", check.evidence)


# -- shares -----------------------------------------------------------------------------------------------------------


def share(samba: Samba, name: str = "bundles", folder: str = "doctor") -> Place:
    return Place.parse(samba.url(name, folder))


def test_a_share_is_written_read_and_cleaned_by_the_endpoints_account(subject: MakeSubject, samba: Samba) -> None:
    diagnosis = examine(subject(share(samba), samba.credential))
    check = find(diagnosis, "destination")
    assert check.state == "ok"
    assert samba.credential.username in check.evidence
    assert find(diagnosis, "destination-space").state in {"ok", "warning"}
    assert list((samba.path("bundles") / "doctor").iterdir()) == []


def test_a_wrong_share_password_is_tried_once(subject: MakeSubject, samba: Samba) -> None:
    with TcpProxy(samba.host, samba.port) as line:
        place = Place.parse(f"smb://127.0.0.1:{line.port}/bundles")
        diagnosis = examine(subject(place, samba.wrong_credential))
        assert line.connections == 1
    check = only_failed(diagnosis, "destination")
    assert "password" in check.fix
    assert diagnosis.exit_code == ExitCode.PREFLIGHT


def test_an_account_that_one_place_refused_is_not_tried_at_the_next(
    subject: MakeSubject, samba: Samba, request_to: RequestTo
) -> None:
    with TcpProxy(samba.host, samba.port) as line:
        places = [Place.parse(f"smb://127.0.0.1:{line.port}/bundles/{name}") for name in ("a", "b")]
        request = request_to(places[0], staging=places[1])
        wrong = samba.wrong_credential
        diagnosis = examine(subject(request=request, opener=wrong, staging_opener=wrong))
        assert line.connections == 1
    only_failed(diagnosis, "destination")
    assert "was refused already" in find(diagnosis, "staging").evidence


def test_a_read_only_share_names_the_permission(subject: MakeSubject, samba: Samba) -> None:
    check = only_failed(examine(subject(share(samba, "readonly"), samba.credential)), "destination")
    assert "write" in check.fix


def test_a_share_that_does_not_exist_names_the_name(subject: MakeSubject, samba: Samba) -> None:
    check = only_failed(examine(subject(share(samba, "nosuch"), samba.credential)), "destination")
    assert "name" in check.fix


def test_a_file_server_that_is_away_names_the_line(subject: MakeSubject, samba: Samba) -> None:
    place = Place.parse(f"smb://127.0.0.1:{closed_port()}/bundles")
    check = only_failed(examine(subject(place, samba.credential)), "destination")
    assert "port" in check.fix


def test_a_share_with_too_little_room_is_no_space(subject: MakeSubject, samba: Samba) -> None:
    if not samba.small_is_mounted:
        pytest.skip("not run: a small disk needs root")
    diagnosis = examine(subject(share(samba, "small", ""), samba.credential))
    check = only_failed(diagnosis, "destination-space")
    assert "Free space" in check.fix
    assert diagnosis.exit_code == ExitCode.NO_SPACE


def test_a_folder_of_this_machine_is_nothing_that_the_endpoint_can_write_to(
    subject: MakeSubject, request_to: RequestTo, tmp_path: Path
) -> None:
    request = request_to(Place.parse(str(tmp_path / "bundles")), shared_disk=False)
    check = only_failed(examine(subject(request=request)), "way")
    assert "share" in check.fix
    assert "--staging" in check.fix


# -- containers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def container(azurite: Azurite) -> str:
    return azurite.new_container()


def direct(request_to: RequestTo, azurite: Azurite, container: str, **place: str) -> Request:
    return request_to(Place.parse(azurite.container_url(container), **place), direct=True)


def test_a_container_that_can_be_written_is_the_route(
    subject: MakeSubject, request_to: RequestTo, stamp: SimulatedStamp, azurite: Azurite, container: str
) -> None:
    stamp.portal.take_down()
    request = direct(request_to, azurite, container)
    diagnosis = examine(subject(request=request, opener=azurite.sas(container)))
    assert diagnosis.failed == ()
    assert diagnosis.route.kind is RouteKind.UPLOAD
    assert "--direct" in diagnosis.route.next_step
    assert list(azurite.owner(container).list_blob_names()) == []


@pytest.mark.parametrize(
    ("options", "evidence", "fix"),
    [
        ({"expires_in": timedelta(minutes=-10)}, "expired", "new SAS"),
        ({"expires_in": timedelta(hours=2)}, "may last until", "outlives the collection"),
        ({"starts_in": timedelta(hours=1)}, "begins at", "clock"),
        ({"permissions": "rl"}, "writing", "Write"),
        ({"permissions": "rwc"}, "listing", "List"),
    ],
    ids=["expired", "too short", "not yet", "no write", "no list"],
)
def test_a_sas_that_does_not_do_is_found_by_reading_it(
    subject: MakeSubject,
    request_to: RequestTo,
    azurite: Azurite,
    container: str,
    options: dict[str, timedelta | str],
    evidence: str,
    fix: str,
) -> None:
    sas = azurite.sas(container, **options)  # type: ignore[arg-type]
    diagnosis = examine(subject(request=direct(request_to, azurite, container), opener=sas))
    check = only_failed(diagnosis, "sas")
    assert evidence in check.evidence
    assert fix in check.fix
    assert find(diagnosis, "destination").state == "skipped"
    assert diagnosis.exit_code == ExitCode.PREFLIGHT


def test_a_sas_of_another_service_is_found(
    subject: MakeSubject, request_to: RequestTo, azurite: Azurite, container: str
) -> None:
    sas = azurite.account_sas(services="q")
    check = only_failed(examine(subject(request=direct(request_to, azurite, container), opener=sas)), "sas")
    assert "service Blob" in check.fix


def test_a_sas_that_is_cut_off_is_found(
    subject: MakeSubject, request_to: RequestTo, azurite: Azurite, container: str
) -> None:
    sas = Secret(azurite.sas(container).reveal().partition("&sig=")[0])
    check = only_failed(examine(subject(request=direct(request_to, azurite, container), opener=sas)), "sas")
    assert "Copy the SAS token again" in check.fix


def test_a_sas_without_read_is_a_warning_of_what_cannot_be_proved(
    subject: MakeSubject, request_to: RequestTo, azurite: Azurite, container: str
) -> None:
    sas = azurite.sas(container, permissions="wcl")
    diagnosis = examine(subject(request=direct(request_to, azurite, container), opener=sas))
    assert find(diagnosis, "sas").state == "warning"
    assert "Read" in find(diagnosis, "sas").fix
    assert find(diagnosis, "destination").state == "warning"
    assert diagnosis.exit_code == ExitCode.OK


def test_a_sas_signed_with_another_key_is_refused_by_the_service(
    subject: MakeSubject, request_to: RequestTo, azurite: Azurite, container: str
) -> None:
    sas = azurite.sas(container, key="bm90IHRoZSBrZXk=")
    check = only_failed(examine(subject(request=direct(request_to, azurite, container), opener=sas)), "destination")
    assert "SAS" in check.fix or "SAS" in check.evidence


def test_a_service_version_that_the_service_does_not_know_is_named(
    subject: MakeSubject, request_to: RequestTo, azurite: Azurite, container: str
) -> None:
    request = direct(request_to, azurite, container, api_version="2099-01-01")
    check = only_failed(examine(subject(request=request, opener=azurite.sas(container))), "destination")
    assert "api_version" in check.fix


def test_a_sas_newer_than_the_stamps_own_service_is_found(
    subject: MakeSubject, request_to: RequestTo, azurite: Azurite, stamp: SimulatedStamp
) -> None:
    domain = subject().stamp.external_fqdn
    place = Place.parse(f"https://account.blob.{domain}/logs")
    sas = azurite.sas("logs", version="2021-12-02")
    check = only_failed(examine(subject(request=request_to(place, direct=True), opener=sas)), "sas")
    assert "2019-02-02" in check.fix


def test_a_container_that_does_not_exist_names_the_name(
    subject: MakeSubject, request_to: RequestTo, azurite: Azurite
) -> None:
    request = direct(request_to, azurite, "no-such-container")
    check = only_failed(examine(subject(request=request, opener=azurite.sas("no-such-container"))), "destination")
    assert "name" in check.fix


def test_a_container_that_the_endpoint_would_have_to_write_needs_a_share_or_direct(
    subject: MakeSubject, request_to: RequestTo, azurite: Azurite, container: str
) -> None:
    request = request_to(Place.parse(azurite.container_url(container)))
    check = only_failed(examine(subject(request=request, opener=azurite.sas(container))), "way")
    assert "--staging" in check.fix
    assert "--direct" in check.fix


# -- this machine -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="a file's mode says nothing on Windows")
def test_a_password_file_that_others_can_read_is_a_finding_and_stops_no_other_check(
    subject: MakeSubject, tmp_path: Path
) -> None:
    file = tmp_path / "password.txt"
    file.write_text("secret", encoding="utf-8")
    file.chmod(0o644)
    with pytest.raises(ConfigurationError) as refused:
        find_secret("it", variable="NONE", file=file, keyring_name="", sources=Sources({}, use_keyring=False))
    diagnosis = examine(subject(credential=refused.value))
    check = only_failed(diagnosis, "endpoint-password")
    assert "chmod 600" in check.fix
    assert find(diagnosis, "destination").state == "ok"
    assert diagnosis.exit_code == ExitCode.USAGE


def test_a_share_password_that_cannot_be_had_is_a_finding(subject: MakeSubject, samba: Samba) -> None:
    missing: BridgeError = ConfigurationError(source="nas.txt", detail="cannot be read", fix="Check the path.")
    diagnosis = examine(subject(share(samba), missing))
    assert only_failed(diagnosis, "destination-secret").fix == "Check the path."
    assert find(diagnosis, "destination").state == "skipped"


def test_an_authority_file_that_is_missing_is_found(subject: MakeSubject, tmp_path: Path) -> None:
    healthy = subject()
    diagnosis = examine(replace(healthy, stamp=replace(healthy.stamp, ca_file=tmp_path / "none.pem")))
    assert "ca_file" in only_failed(diagnosis, "configuration").fix


def test_odd_settings_are_warned_of(subject: MakeSubject) -> None:
    healthy = subject()
    first = healthy.stamp.endpoints[0]
    odd = replace(healthy.stamp, endpoints=(first, first), username="CloudAdmin", timezone="Mars Standard Time")
    check = only_warned(examine(replace(healthy, stamp=odd)), "configuration")
    assert "DOMAIN\\CloudAdmin" in check.fix
    assert "'timezone'" in check.fix
    assert "each ERCS machine its own" in check.fix


def test_a_state_folder_that_cannot_be_written_is_found(subject: MakeSubject, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    check = only_failed(examine(subject(state_dir=tmp_path / "file")), "state-folder")
    assert "--state-dir" in check.fix


def test_a_damaged_journal_is_found(subject: MakeSubject, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal.sqlite").write_bytes(b"no database" * 1000)
    assert only_failed(examine(subject()), "running").fix


def test_a_run_that_is_under_way_is_named(subject: MakeSubject, tmp_path: Path) -> None:
    healthy = subject()
    assert healthy.request is not None
    with Journal(tmp_path / "state") as journal:
        journal.create("20261123T100000Z-0000000a", healthy.request, "bundle")
        for state in (RunState.PREFLIGHTED, RunState.LOCKED, RunState.RUNNING):
            journal.move("20261123T100000Z-0000000a", state)
    diagnosis = examine(healthy)
    assert "pep-bridge attach 20261123T100000Z-0000000a" in only_failed(diagnosis, "running").fix
    assert diagnosis.exit_code == ExitCode.BUSY


def test_a_stamp_that_cools_down_is_named(subject: MakeSubject, tmp_path: Path) -> None:
    healthy = subject()
    with Journal(tmp_path / "state") as journal:
        journal.cool_down(healthy.stamp.name, datetime.now(UTC) + timedelta(minutes=4))
    diagnosis = examine(healthy)
    assert "--queue" in only_failed(diagnosis, "running").fix
    assert diagnosis.exit_code == ExitCode.BUSY


def test_a_lock_of_another_jump_box_is_seen_beside_the_bundles(subject: MakeSubject, tmp_path: Path) -> None:
    folder = tmp_path / "bundles"
    folder.mkdir()
    with held_lock(folder, subject().stamp.name):
        diagnosis = examine(subject(Place.parse(str(folder))))
        check = only_failed(diagnosis, "running")
        assert "another-run" in check.evidence
        assert "--break-lock" in check.fix
        assert diagnosis.exit_code == ExitCode.BUSY


@contextmanager
def held_lock(folder: Path, stamp: str) -> Iterator[None]:
    store = FolderStore(folder)
    lock = StampLock(
        store,
        stamp,
        "another-run",
        settings=LockSettings(heartbeat_s=60),
        now=lambda: datetime.now(UTC),
        wait=lambda seconds: False,
        on_lost=lambda text: None,
    )
    lock.acquire()
    lock.expect_work_until(datetime.now(UTC) + timedelta(hours=1))
    try:
        yield
    finally:
        lock.release()


# -- several things at once -------------------------------------------------------------------------------------------


def test_two_causes_end_with_the_code_of_the_preflight(subject: MakeSubject, samba: Samba) -> None:
    wrong = Credential("AZURESTACK\\CloudAdmin", Secret("not the password"))
    diagnosis = examine(subject(share(samba, "readonly"), samba.credential, credential=wrong))
    assert [check.name for check in diagnosis.failed] == ["session", "destination"]
    assert diagnosis.exit_code == ExitCode.PREFLIGHT


def test_a_check_that_hangs_costs_the_others_nothing(subject: MakeSubject, samba: Samba) -> None:
    healthy = subject()
    with TcpProxy(samba.host, samba.port) as line:
        line.stall()
        place = Place.parse(f"smb://127.0.0.1:{line.port}/bundles")
        away = moved(healthy.stamp, closed_port(), closed_port(), closed_port())  # a session may take its time here
        diagnosis = examine(replace(subject(place, samba.credential), stamp=away), patience_s=4.0)
    assert "no answer in time" in find(diagnosis, "destination").evidence
    assert find(diagnosis, "portal").state == "ok"
    assert find(diagnosis, "internet").state == "ok"


def test_the_document_has_state_evidence_and_fix_of_every_check(subject: MakeSubject) -> None:
    document = examine(subject()).to_json()
    assert document["route"] == "portal"
    assert all(set(check) == {"name", "state", "evidence", "fix"} for check in document["checks"])
