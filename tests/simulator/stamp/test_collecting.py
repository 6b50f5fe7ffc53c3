"""What a simulated Get-AzureStackLog leaves behind, and what it says meanwhile."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.errors import UsageError
from bridge.simulator._command import CommandSpec, CredentialValue, SimulatedError
from bridge.simulator.stamp import ROLES, StampOptions, StampState, parse_clock, stamp_commands
from bridge.simulator.stamp._content import filetime
from bridge.simulator.stamp._destination import FolderDestination
from tests.support.azurite import Azurite
from tests.support.fake_context import FakeContext
from tests.support.samba import Samba

# In the stamp's zone: so the session hands over what a client sent with an offset.
ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2026, 11, 23, 9, 0, tzinfo=ZONE)
END = datetime(2026, 11, 23, 13, 0, tzinfo=ZONE)
NOON = datetime(2026, 11, 23, 13, 30, tzinfo=ZONE)
TIMES = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def stamp(root: Path, **options: Any) -> StampState:
    defaults: dict[str, Any] = {
        "size_bytes": 300_000,
        "duration_s": 0.0,
        "seed": 1,
        "starts_at": NOON,
        "output_root": root,
    }
    return StampState(StampOptions(**(defaults | options)))


def command(state: StampState, name: str = "Get-AzureStackLog") -> CommandSpec:
    return next(spec for spec in stamp_commands(state) if spec.name == name)


def collect(state: StampState, root: Path, ctx: FakeContext | None = None, **arguments: Any) -> Path:
    """Collects to the folder; returns the bundle folder."""
    window = {"FromDate": START, "ToDate": END}
    command(state).run(ctx or FakeContext(), {"OutputPath": str(root)} | window | arguments)
    return root / state.collections[-1].folder


def zips(folder: Path, role: str = "") -> list[Path]:
    return sorted(folder.glob(f"{role}-*.zip" if role else "*.zip"))


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def output_log(folder: Path) -> str:
    return (folder / "Get-AzureStackLog_Output.log").read_text(encoding="utf-8")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in zips(folder)}


# -- layout


def test_a_folder_named_by_the_stamps_own_time_holds_zips_of_every_role_and_the_output_log(tmp_path: Path) -> None:
    folder = collect(stamp(tmp_path, size_bytes=2_000_000), tmp_path)
    assert folder.name == "AzureStackLogs-20261123133000"  # 12:30 UTC is 13:30 in W. Europe
    assert {path.name.split("-")[0] for path in zips(folder)} == set(ROLES)
    assert "Windows PowerShell transcript end" in output_log(folder)


def test_every_zip_opens_and_its_checksums_are_right(tmp_path: Path) -> None:
    for path in zips(collect(stamp(tmp_path), tmp_path, FilterByRole=["Storage", "SeedRing", "ADFS"])):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None


def test_a_big_role_is_split_and_storage_holds_a_nested_zip(tmp_path: Path) -> None:
    folder = collect(stamp(tmp_path, size_bytes=8_000_000), tmp_path, FilterByRole=["Storage"])
    of_one_node = zips(folder, "Storage-AzS-Node01")
    assert len(of_one_node) > 1
    nested = next(
        data for path in of_one_node for name, data in members(path).items() if "storagediagnosticinfo" in name
    )
    with zipfile.ZipFile(io.BytesIO(nested)) as inner:
        assert "ClusterLogs/Cluster.log" in inner.namelist()


def test_the_seed_ring_holds_the_validation_summary_once(tmp_path: Path) -> None:
    folder = collect(stamp(tmp_path), tmp_path, FilterByRole=["SeedRing"])
    names = [name for path in zips(folder) for name in members(path) if "AzureStack_Validation_Summary_" in name]
    assert sorted(Path(name).suffix for name in names) == [".HTML", ".JSON"]


def test_the_size_asked_is_the_size_written(tmp_path: Path) -> None:
    folder = collect(stamp(tmp_path, size_bytes=20_000_000), tmp_path)
    assert sum(map(len, content(folder).values())) == pytest.approx(20_000_000, rel=0.05)


def test_several_nodes_are_in_the_logs_and_a_filter_leaves_one(tmp_path: Path) -> None:
    state = stamp(tmp_path)
    everywhere = collect(state, tmp_path, FilterByRole=["BareMetal"])
    assert {path.name.split("-2026")[0] for path in zips(everywhere)} == {f"BareMetal-AzS-Node0{n}" for n in "1234"}
    one = collect(state, tmp_path, FilterByRole=["BareMetal"], FilterByNode=["azs-node02"])
    assert {path.name.split("-2026")[0] for path in zips(one)} == {"BareMetal-AzS-Node02"}


def test_a_log_type_leaves_only_members_of_that_type(tmp_path: Path) -> None:
    folder = collect(stamp(tmp_path), tmp_path, FilterByRole=["ADFS"], FilterByLogType=["WindowsEvent"])
    names = [name for path in zips(folder) for name in members(path)]
    assert names
    assert all("WindowsEventLogs" in name for name in names)


def test_dump_files_come_only_when_asked_for(tmp_path: Path) -> None:
    state = stamp(tmp_path)
    without = collect(state, tmp_path, FilterByRole=["ADFS"])
    with_dumps = collect(state, tmp_path, FilterByRole=["ADFS"], IncludeDumpFile=True)
    assert not [name for path in zips(without) for name in members(path) if name.endswith(".dmp")]
    assert [name for path in zips(with_dumps) for name in members(path) if name.endswith(".dmp")]


# -- window and seed


def test_every_time_in_the_text_lies_in_the_window_and_both_ends_are_reached(tmp_path: Path) -> None:
    folder = collect(stamp(tmp_path), tmp_path, FilterByRole=["ADFS"])
    text = b"".join(
        data
        for path in zips(folder)
        for name, data in members(path).items()
        if name.endswith((".log", ".xml", ".jsonl"))
    )
    times = sorted(datetime.fromisoformat(found.decode()).replace(tzinfo=UTC) for found in set(TIMES.findall(text)))
    assert START <= times[0] < START + timedelta(minutes=10)
    assert END - timedelta(minutes=10) < times[-1] < END


def test_traces_carry_times_of_the_window(tmp_path: Path) -> None:
    folder = collect(stamp(tmp_path), tmp_path, FilterByRole=["ADFS"])
    trace = next(data for name, data in members(zips(folder)[0]).items() if name.endswith(".etl"))
    (first,) = struct.unpack_from("<Q", trace, 16)
    assert filetime(START) <= first < filetime(END)


def test_traces_older_than_five_days_are_gone_while_text_remains(tmp_path: Path) -> None:
    window: dict[str, Any] = {"FromDate": START - timedelta(days=10), "ToDate": START - timedelta(days=9)}
    folder = collect(stamp(tmp_path), tmp_path, FilterByRole=["ADFS"], **window)
    names = [name for path in zips(folder) for name in members(path)]
    assert any(name.endswith(".log") for name in names)
    assert not any(name.endswith(".etl") for name in names)


def test_the_same_seed_and_window_give_the_same_names_and_bytes_at_another_time(tmp_path: Path) -> None:
    roles: dict[str, Any] = {"FilterByRole": ["Storage", "SeedRing"]}
    one = content(collect(stamp(tmp_path / "a"), tmp_path / "a", **roles))
    later = stamp(tmp_path / "b", starts_at=NOON + timedelta(hours=7))
    assert content(collect(later, tmp_path / "b", **roles)) == one
    other_seed = stamp(tmp_path / "c", seed=2)
    assert content(collect(other_seed, tmp_path / "c", **roles)) != one


def test_a_window_in_the_future_gives_no_zip_and_a_warning(tmp_path: Path) -> None:
    ctx = FakeContext()
    window: dict[str, Any] = {"FromDate": NOON + timedelta(hours=1), "ToDate": NOON + timedelta(hours=2)}
    assert zips(collect(stamp(tmp_path), tmp_path, ctx, FilterByRole=["ADFS"], **window)) == []
    assert any("later than the current time" in text for text in ctx.warnings)


def test_a_reversed_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulatedError, match="must be earlier"):
        collect(stamp(tmp_path), tmp_path, FromDate=END, ToDate=START)


def test_a_naive_date_is_read_in_the_stamps_time_zone(tmp_path: Path) -> None:
    naive: dict[str, Any] = {"FromDate": datetime(2026, 11, 23, 9, 0), "ToDate": datetime(2026, 11, 23, 13, 0)}  # noqa: DTZ001
    assert content(collect(stamp(tmp_path / "a"), tmp_path / "a", FilterByRole=["ADFS"], **naive)) == content(
        collect(stamp(tmp_path / "b"), tmp_path / "b", FilterByRole=["ADFS"])
    )


def test_the_hour_of_a_date_counts_and_its_kind_does_not(tmp_path: Path) -> None:
    as_utc = {"FromDate": datetime(2026, 11, 23, 9, 0, tzinfo=UTC), "ToDate": datetime(2026, 11, 23, 13, 0, tzinfo=UTC)}
    state = stamp(tmp_path / "a")
    command(state).run(FakeContext(), {"OutputPath": str(tmp_path / "a"), "FilterByRole": ["ADFS"], **as_utc})
    assert content(tmp_path / "a" / state.collections[-1].folder) == content(
        collect(stamp(tmp_path / "b"), tmp_path / "b", FilterByRole=["ADFS"])
    )


def test_a_clock_that_is_behind_has_no_logs_of_the_last_hour(tmp_path: Path) -> None:
    state = stamp(tmp_path, faults=("wrong-clock:-1h",))
    folder = collect(state, tmp_path, FilterByRole=["ADFS"], FromDate=NOON - timedelta(minutes=30), ToDate=NOON)
    assert folder.name == "AzureStackLogs-20261123123000"
    assert zips(folder) == []


# -- what it says


def test_unknown_roles_and_nodes_warn_and_the_others_are_collected(tmp_path: Path) -> None:
    ctx = FakeContext()
    folder = collect(
        stamp(tmp_path), tmp_path, ctx, FilterByRole=["adfs", "Nonsense"], FilterByNode=["AzS-ADFS01", "x"]
    )
    assert {path.name.split("-2026")[0] for path in zips(folder)} == {"ADFS-AzS-ADFS01"}
    assert [text for text in ctx.warnings if "'Nonsense'" in text]
    assert [text for text in ctx.warnings if "'x'" in text]


def test_progress_rises_to_completion_for_as_long_as_was_asked(tmp_path: Path) -> None:
    ctx = FakeContext()
    collect(stamp(tmp_path, duration_s=0.6), tmp_path, ctx, FilterByRole=["Storage", "ADFS", "NC"])
    percents = [percent for _, _, percent in ctx.progress[:-1]]
    assert percents == sorted(percents)
    assert len(percents) >= 3
    assert ctx.progress[-1][1] == "Completed"


def test_a_file_is_seen_growing_while_it_is_written(tmp_path: Path) -> None:
    class Watching(FakeContext):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: set[int] = set()

        def write_progress(self, *args: Any, **options: Any) -> None:
            self.sizes |= {path.stat().st_size for path in tmp_path.rglob("*.zip")}

    ctx = Watching()
    folder = collect(
        stamp(tmp_path, size_bytes=20_000_000, duration_s=1.5, node_count=1), tmp_path, ctx, FilterByRole=["OEM"]
    )
    whole = {path.stat().st_size for path in zips(folder)}
    assert ctx.sizes - whole - {0}


def test_stopping_ends_the_collection_and_keeps_what_was_written(tmp_path: Path) -> None:
    state, ctx = stamp(tmp_path, duration_s=3.0), FakeContext(stop_at_percent=30)
    folder = collect(state, tmp_path, ctx)
    assert state.collections[-1].outcome == "stopped"
    assert zips(folder)
    assert "transcript end" not in output_log(folder)


def test_a_collection_right_after_a_stopped_one_is_warned_about(tmp_path: Path) -> None:
    state = stamp(tmp_path, duration_s=3.0)
    collect(state, tmp_path, FakeContext(stop_at_percent=1))
    ctx = FakeContext()
    state.options = StampOptions(duration_s=0, size_bytes=1000, output_root=tmp_path)
    collect(state, tmp_path, ctx, FilterByRole=["ADFS"])
    assert any("cancelled less than 5 minutes ago" in text for text in ctx.warnings)


def test_the_time_limit_ends_a_hanging_role(tmp_path: Path) -> None:
    state = stamp(tmp_path, faults=("role-hangs:ADFS",), minute_s=0.1)
    with pytest.raises(SimulatedError) as caught:
        collect(state, tmp_path, FilterByRole=["NC", "ADFS", "Storage"], TimeOutInMinutes=3)
    assert caught.value.error_id == "LogCollectionTimeout,Get-AzureStackLog"
    assert zips(tmp_path / state.collections[-1].folder, "NC")
    assert not zips(tmp_path / state.collections[-1].folder, "Storage")


def test_two_collections_at_once_are_refused(tmp_path: Path) -> None:
    state = stamp(tmp_path)
    refused: list[str] = []

    class Second(FakeContext):
        def write_progress(self, *args: Any, **options: Any) -> None:
            if not refused:
                with pytest.raises(SimulatedError) as caught:
                    collect(state, tmp_path, FakeContext(machine="AzS-ERCS02"))
                refused.append(caught.value.error_id)

    collect(state, tmp_path, Second(), FilterByRole=["ADFS"])
    assert refused == ["LogCollectionInProgress,Get-AzureStackLog"]
    assert [record.outcome for record in state.collections] == ["finished"]


def test_secrets_are_in_no_record_no_call_and_not_in_the_output_log(tmp_path: Path) -> None:
    state, ctx = stamp(tmp_path), FakeContext()
    secret = CredentialValue("CORP\\writer", "pass-word-of-the-share")
    sas = "http://127.0.0.1:1/acct/c?sv=1&sig=SECRETSIGNATURE"
    folder = collect(state, tmp_path, ctx, FilterByRole=["ADFS"], LocalAdminCredential=secret, InputSasUri=sas)
    everything = f"{ctx.all_text} {output_log(folder)} {state.calls!r} {state.transcripts_of('AzS-ERCS01')!r}"
    assert "SECRETSIGNATURE" not in everything
    assert "pass-word-of-the-share" not in everything


def test_leaky_logs_hold_the_sas_as_typed(tmp_path: Path) -> None:
    state = stamp(tmp_path, faults=("leaky-logs",))
    sas = "http://127.0.0.1:1/acct/c?sv=1&sig=SECRETSIGNATURE"
    folder = collect(state, tmp_path, FilterByRole=["ADFS"], InputSasUri=sas)
    assert "SECRETSIGNATURE" in output_log(folder)
    assert any("SECRETSIGNATURE" in line for line in state.transcripts_of("AzS-ERCS01")[0].lines)


# -- faults


def test_a_role_that_fails_leaves_an_error_record_and_no_zip(tmp_path: Path) -> None:
    ctx = FakeContext()
    folder = collect(stamp(tmp_path, faults=("role-fails:adfs",)), tmp_path, ctx, FilterByRole=["ADFS", "NC"])
    assert {path.name.split("-")[0] for path in zips(folder)} == {"NC"}
    assert [error.target for error in ctx.errors] == ["ADFS"]
    assert "PS>TerminatingError" in output_log(folder)


def test_an_empty_role_leaves_neither_zip_nor_error(tmp_path: Path) -> None:
    ctx = FakeContext()
    folder = collect(stamp(tmp_path, faults=("role-empty:ADFS",)), tmp_path, ctx, FilterByRole=["ADFS", "NC"])
    assert {path.name.split("-")[0] for path in zips(folder)} == {"NC"}
    assert not ctx.errors
    assert "Role 'ADFS': no log files found" in output_log(folder)


def test_a_truncated_role_has_a_last_zip_that_does_not_open(tmp_path: Path) -> None:
    folder = collect(stamp(tmp_path, faults=("role-truncated:ADFS",)), tmp_path, FilterByRole=["ADFS"])
    *whole, last = zips(folder)
    assert all(zipfile.is_zipfile(path) for path in whole)
    assert last.stat().st_size
    assert not zipfile.is_zipfile(last)


def test_any_is_one_role_that_the_seed_chooses(tmp_path: Path) -> None:
    def failed(seed: int, name: str) -> list[Any]:
        ctx = FakeContext()
        state = stamp(tmp_path / name, seed=seed, faults=("role-fails:any",))
        collect(state, tmp_path / name, ctx, FilterByRole=["ADFS", "NC", "Storage", "ECE"])
        return [error.target for error in ctx.errors]

    assert len(failed(1, "a")) == 1
    assert failed(1, "b") == failed(1, "c")


def test_a_missing_node_has_no_zips_and_is_named(tmp_path: Path) -> None:
    ctx = FakeContext()
    folder = collect(stamp(tmp_path, faults=("node-missing:AzS-Node03",)), tmp_path, ctx, FilterByRole=["Storage"])
    assert {path.name.split("-2026")[0] for path in zips(folder)} == {f"Storage-AzS-Node0{n}" for n in "124"}
    assert any("AzS-Node03" in text for text in ctx.warnings)


def test_a_vm_that_is_off_has_event_logs_only_with_recovery(tmp_path: Path) -> None:
    state = stamp(tmp_path, faults=("vm-off:AzS-ADFS02",))
    asked: dict[str, Any] = {"FilterByRole": ["ADFS"], "FilterByNode": ["AzS-ADFS02"]}

    def has_events(folder: Path) -> bool:
        return any(name.endswith(".evtx") for path in zips(folder) for name in members(path))

    assert not has_events(collect(state, tmp_path, **asked))
    assert has_events(collect(state, tmp_path, **asked, PerformVMLogRecovery=True))


def test_a_full_staging_disk_ends_the_output_with_the_public_text(tmp_path: Path) -> None:
    ctx = FakeContext()
    folder = collect(
        stamp(tmp_path, faults=("staging-disk-full:40",)), tmp_path, ctx, FilterByRole=["Storage", "ADFS", "NC"]
    )
    assert "There is not enough space on the disk." in output_log(folder)
    assert {"ADFS", "NC"} <= {error.target for error in ctx.errors}
    assert sum(map(len, content(folder).values())) <= 300_000 * 0.42


def test_somebody_elses_collection_refuses_ours(tmp_path: Path) -> None:
    with pytest.raises(SimulatedError, match="already in progress"):
        collect(stamp(tmp_path, faults=("other-collection-running:1h",)), tmp_path)


def test_late_output_arrives_after_the_command_has_ended(tmp_path: Path) -> None:
    state = stamp(tmp_path, faults=("output-late:0.3s",))
    folder = collect(state, tmp_path, FilterByRole=["ADFS"])
    assert not folder.exists()
    for thread in state._late:
        thread.join()
    assert len(zips(folder)) == 2
    state.close()


def test_closing_the_stamp_drops_late_output_and_leaves_no_thread(tmp_path: Path) -> None:
    state = stamp(tmp_path, faults=("output-late:1h",))
    collect(state, tmp_path, FilterByRole=["ADFS"])
    state.close()
    assert not list(tmp_path.iterdir())


def test_hostile_names_reach_the_folder_zips_and_records_but_nothing_outside_the_root(tmp_path: Path) -> None:
    root, ctx = tmp_path / "root", FakeContext()
    root.mkdir()
    folder = collect(stamp(root, faults=("hostile-names", "hostile-records")), root, ctx, FilterByRole=["ADFS"])
    assert "../../../../etc/escaped.txt" in members(folder / "Hostile-members.zip")
    assert any("\x00" in text for text in ctx.warnings)
    assert any("\ud800" in text for text in ctx.warnings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


# -- where it writes


@pytest.mark.parametrize("where", ["{root}/../outside", "relative", "/etc"])
def test_an_output_path_outside_the_allowed_root_is_denied(tmp_path: Path, where: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(SimulatedError) as caught:
        collect(stamp(root), Path(where.format(root=root)))
    assert caught.value.error_id == "UnauthorizedAccess,Get-AzureStackLog"
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize("name", ["../outside.zip", "deep/../../outside.zip", "link/outside.zip"])
def test_no_name_leads_out_of_the_allowed_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    if name.startswith("link"):
        (root / "link").symlink_to(tmp_path)
    destination = FolderDestination(str(root), root, "Get-AzureStackLog")
    with pytest.raises(SimulatedError, match="denied"), destination.open(name):
        pass
    assert not (tmp_path / "outside.zip").exists()


def test_without_an_allowed_root_no_output_path_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(SimulatedError, match="denied"):
        collect(stamp(tmp_path, output_root=None), tmp_path)


def shared(samba: Samba, *, folder: str, share: str = "bundles", credential: Any = None) -> dict[str, Any]:
    chosen = credential or samba.credential
    return {
        "OutputSharePath": samba.unc(share, folder),
        "OutputShareCredential": CredentialValue(chosen.username, chosen.password.reveal()),
        "FilterByRole": ["Storage", "ADFS"],
        "FromDate": START,
        "ToDate": END,
    }


def test_a_share_gets_the_same_zips_as_a_folder(samba: Samba, tmp_path: Path) -> None:
    state = stamp(tmp_path, smb_port=samba.port, size_bytes=5_000_000)
    command(state).run(FakeContext(), shared(samba, folder="a/data"))
    on_share = samba.path("bundles") / "a" / "data" / state.collections[-1].folder
    assert content(on_share) == content(collect(state, tmp_path, FilterByRole=["Storage", "ADFS"]))
    assert "transcript end" in output_log(on_share)


def test_folders_that_are_there_already_are_used(samba: Samba, tmp_path: Path) -> None:
    (samba.path("bundles") / "there" / "data").mkdir(parents=True)
    (samba.path("bundles") / "there").chmod(0o777)
    (samba.path("bundles") / "there" / "data").chmod(0o777)
    state = stamp(tmp_path, smb_port=samba.port)
    command(state).run(FakeContext(), shared(samba, folder="there/data"))
    assert zips(samba.path("bundles") / "there" / "data" / state.collections[-1].folder)


def test_an_encrypted_share_is_written_too(samba: Samba, tmp_path: Path) -> None:
    state = stamp(tmp_path, smb_port=samba.port)
    command(state).run(FakeContext(), shared(samba, folder="b", share="encrypted"))
    assert zips(samba.path("encrypted") / "b" / state.collections[-1].folder)


@pytest.mark.parametrize(
    ("share", "password_is_right", "text"),
    [
        ("readonly", True, "Access is denied."),
        ("nosuch", True, "The network name cannot be found."),
        ("bundles", False, "The user name or password is incorrect."),
    ],
)
def test_a_share_that_cannot_be_written_ends_the_command(
    samba: Samba, tmp_path: Path, share: str, password_is_right: bool, text: str
) -> None:
    state, ctx = stamp(tmp_path, smb_port=samba.port), FakeContext()
    credential = samba.credential if password_is_right else samba.wrong_credential
    with pytest.raises(SimulatedError) as caught:
        command(state).run(ctx, shared(samba, folder="c", share=share, credential=credential))
    assert text in caught.value.message
    assert credential.password.reveal() not in f"{caught.value!r}{ctx.all_text}"
    assert state.collections[-1].outcome == "failed"


def test_nobody_listens_at_the_share_port(tmp_path: Path) -> None:
    state = stamp(tmp_path, smb_port=1)
    arguments = {"OutputSharePath": "\\\\127.0.0.1\\x", "OutputShareCredential": CredentialValue("a\\b", "c")}
    with pytest.raises(SimulatedError, match="The network path was not found"):
        command(state).run(FakeContext(), arguments)


def test_a_share_that_fills_up_ends_the_command_and_keeps_what_arrived(samba: Samba, tmp_path: Path) -> None:
    if not samba.small_is_mounted:
        pytest.skip("not run: only root can mount a small file system")
    state = stamp(tmp_path, smb_port=samba.port, size_bytes=20_000_000)
    with pytest.raises(SimulatedError, match="not enough space on the disk"):
        command(state).run(FakeContext(), shared(samba, folder="", share="small"))
    assert zips(samba.path("small") / state.collections[-1].folder)


def test_a_share_gets_the_hostile_names_that_it_permits_and_the_collection_goes_on(
    samba: Samba, tmp_path: Path
) -> None:
    state = stamp(tmp_path, smb_port=samba.port, faults=("hostile-names",))
    command(state).run(FakeContext(), shared(samba, folder="hostile/data"))
    folder = samba.path("bundles") / "hostile" / "data" / state.collections[-1].folder
    assert {"aux.zip", "CON", "Hostile-members.zip"} <= {path.name for path in folder.iterdir()}
    assert max(len(str(path.relative_to(folder))) for path in folder.rglob("*.zip")) > 300
    assert state.collections[-1].outcome == "finished"


@pytest.fixture
def container(azurite: Azurite) -> tuple[Azurite, str]:
    return azurite, azurite.new_container()


def blobs(azurite: Azurite, container: str) -> dict[str, bytes]:
    with azurite.owner(container) as client:
        return {blob.name: client.download_blob(blob.name).readall() for blob in client.list_blobs()}


@pytest.mark.parametrize("prefix", ["", "/a-bundle/data"])
def test_a_container_gets_the_same_zips_as_a_folder(
    container: tuple[Azurite, str], tmp_path: Path, prefix: str
) -> None:
    azurite, name = container
    state = stamp(tmp_path, size_bytes=6_000_000)
    uri = f"{azurite.container_url(name)}{prefix}?{azurite.sas(name).reveal()}"
    roles = {"FilterByRole": ["Storage", "ADFS"], "FromDate": START, "ToDate": END}
    command(state).run(FakeContext(), {"OutputSasUri": uri} | roles)
    written = blobs(azurite, name)
    head = f"{prefix}/{state.collections[-1].folder}/".lstrip("/")
    assert all(path.startswith(head) for path in written)
    local = content(collect(state, tmp_path, FilterByRole=["Storage", "ADFS"]))
    assert {path.removeprefix(head): data for path, data in written.items() if path.endswith(".zip")} == local
    assert f"{head}Get-AzureStackLog_Output.log" in written


@pytest.mark.parametrize(
    ("permissions", "expires_in"),
    [("rl", timedelta(hours=1)), ("racwdl", timedelta(minutes=-1))],
    ids=["no write", "expired"],
)
def test_a_sas_that_does_not_serve_ends_the_command_without_showing_it(
    container: tuple[Azurite, str], tmp_path: Path, permissions: str, expires_in: timedelta
) -> None:
    azurite, name = container
    sas = azurite.sas(name, permissions, expires_in=expires_in).reveal()
    ctx = FakeContext()
    with pytest.raises(SimulatedError) as caught:
        command(stamp(tmp_path)).run(ctx, {"OutputSasUri": f"{azurite.container_url(name)}?{sas}"})
    assert "(403)" in caught.value.message
    signature = sas.split("sig=")[1]
    assert signature not in f"{caught.value!r}{ctx.all_text}"
    assert not blobs(azurite, name)


def test_a_container_gets_the_hostile_names_that_it_permits(container: tuple[Azurite, str], tmp_path: Path) -> None:
    azurite, name = container
    state = stamp(tmp_path, faults=("hostile-names",))
    uri = f"{azurite.container_url(name)}?{azurite.sas(name).reveal()}"
    command(state).run(FakeContext(), {"OutputSasUri": uri, "FilterByRole": ["ADFS"]})
    folder = state.collections[-1].folder
    # Asked for one by one: a control character in a name makes the whole listing XML that no parser accepts.
    with azurite.owner(name) as client:
        for hostile in ("Hostile-members.zip", "C:\\Windows\\Temp\\drive-letter.zip", "control-\x07-bell.zip"):
            assert client.get_blob_client(f"{folder}/{hostile}").exists()
    assert state.collections[-1].outcome == "finished"


# -- a clock that stands


def test_with_a_clock_two_collections_to_two_places_have_the_same_names_and_bytes(tmp_path: Path) -> None:
    found = []
    for place in ("first", "second"):
        state = stamp(tmp_path, clock=datetime(2026, 11, 23, 12, 15, tzinfo=UTC), starts_at=None)
        for _ in range(2):  # whatever was collected before
            folder = collect(state, tmp_path / place)
        found.append({path.relative_to(tmp_path / place): path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    log = found[0][Path("AzureStackLogs-20261123131500/Get-AzureStackLog_Output.log")].decode()
    assert "Start time: 20261123131500" in log
    assert str(tmp_path) not in log


@pytest.mark.parametrize("text", ["noon", "2026-11-23T12:15"])
def test_a_clock_without_an_offset_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="offset") as caught:
        parse_clock(text)
    assert "2026-11-20T13:00:00+01:00" in caught.value.advice
