"""One run's world: its stamp, its line, its places and the processes that work on it."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.collection import Journal, Place, Request, RunRecord, RunState, Window
from bridge.errors import NoSuchRunError
from bridge.secrets import Credential, Secret
from bridge.stamp import EndpointAddress, Stamp
from tests.soak import client
from tests.soak.plan import Disturbance, Gust, RunPlan
from tests.soak.stamp_process import StampProcess
from tests.support.azurite import Azurite
from tests.support.samba import Samba
from tests.support.tcp_proxy import TcpProxy

WINDOW_END = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ROLES = ("Storage", "ACS", "SeedRing")
HANG_S = 150.0
"""A client that has not ended after so long hangs. No patience of ``client.IMPATIENT`` adds up to that."""
_CALM_ATTEMPTS = 4
_LOOK_S = 0.05


class ViolationError(Exception):
    """The tool broke a promise."""


def need(holds: bool, broken: str) -> None:
    """Raises ``ViolationError`` where a promise does not hold."""
    if not holds:
        raise ViolationError(broken)


@dataclass(frozen=True, slots=True)
class Lab:
    """The servers that all runs share."""

    samba: Samba
    azurite: Azurite


@dataclass(slots=True)
class Figures:
    """What happened to one run."""

    clients: int = 0
    kills: int = 0
    signals: int = 0
    pauses: int = 0
    stops: int = 0
    cuts: int = 0
    attaches: int = 0
    copies: int = 0
    sealed_anew: int = 0
    bundles_verified_again: int = 0
    """Sealed bundles that were verified once more when nothing worked on the stamp any longer."""
    roles_held_against_the_truth: int = 0


@dataclass
class World:
    """Everything that one run of the soak needs; nothing of it is shared with another run but the servers."""

    plan: RunPlan
    root: Path
    lab: Lab
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True)
        self.state_dirs = [self.root / "state-a"] + ([self.root / "state-b"] if self.plan.race else [])
        self.log = self.root / "stderr.txt"
        self.answers: list[dict[str, Any]] = []
        self._share_folder = f"run-{self.root.name}"
        self._share_line = TcpProxy(self.lab.samba.host, self.lab.samba.port)
        self._container = ""
        self.sas: Secret | None = None
        self.copy: Place | None = None
        self.copy_access: Credential | Secret | None = None
        self._prepare_places()

    # -- what the run is asked -----------------------------------------------------------------------------------------

    def _prepare_places(self) -> None:
        way = self.plan.way
        # The stamp writes to the share itself; the bridge has a line of its own to it, which may fail.
        share = Place.parse(f"smb://{self._share_line.host}:{self._share_line.port}/bundles/{self._share_folder}")
        self.share_path = self.lab.samba.path("bundles") / self._share_folder
        if "share" in way:
            self.share_path.mkdir()
        if way in {"share to container", "direct"}:
            self._container = self.lab.azurite.new_container()
            self.sas = self.lab.azurite.sas(self._container, "racwdl")
        container = Place.parse(self.lab.azurite.container_url(self._container)) if self._container else share
        folder, near = Place.parse(str(self.root / "far")), Place.parse(str(self.root / "near"))
        self.destination, self.staging = {
            "folder": (folder, None),
            "folder staged": (folder, near),
            "share": (share, None),
            "share to container": (container, share),
            "direct": (container, None),
        }[way]

    def secret_of(self, place: Place) -> Credential | Secret | None:
        return {"share": self.lab.samba.credential, "container": self.sas, "folder": None}[place.kind]

    def places(self) -> list[Place]:
        return [self.destination] + ([self.staging] if self.staging else [])

    def written(self) -> Place:
        """Where the stamp writes."""
        return self.staging or self.destination

    def _request(self, endpoints: tuple[EndpointAddress, ...], ready: dict[str, Any]) -> Request:
        return Request(
            Stamp(ready["stamp"], endpoints, username=ready["username"]),
            Window(WINDOW_END - timedelta(hours=4), WINDOW_END),
            self.destination,
            roles=ROLES,
            staging=self.staging,
            direct=self.plan.way == "direct",
            shared_disk=self.plan.way.startswith("folder"),
            timeout_minutes=60,
        )

    # -- the run -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lived_through(self) -> Iterator[StampProcess]:
        """Everything has happened, and everybody has ended; the stamp is still there to be asked."""
        with ExitStack() as stack:
            stack.enter_context(self._share_line)
            stamp = stack.enter_context(
                StampProcess(
                    self.log,
                    size_bytes=400_000,
                    duration_s=self.plan.duration_s,
                    seed=self.plan.stamp_seed,
                    faults=self.plan.faults,
                    output_root=self.root,
                    smb_port=self.lab.samba.port,
                    minute_s=0.1,
                    client_lost_after_s=1.0,
                )
            )
            proxies = [stack.enter_context(TcpProxy(each["host"], each["port"])) for each in stamp.ready["endpoints"]]
            endpoints = tuple(
                EndpointAddress(each["name"], proxy.host, proxy.port)
                for each, proxy in zip(stamp.ready["endpoints"], proxies, strict=True)
            )
            self._common = {
                "request": self._request(endpoints, stamp.ready).to_json(),
                "username": stamp.ready["username"],
                "password": stamp.ready["password"],
                "destination": _document(self.secret_of(self.destination)),
                "staging": _document(self.secret_of(self.staging)) if self.staging else None,
                "detach": False,
                "clock_min": 0,
            }
            self.password = Secret(stamp.ready["password"])
            weather = threading.Thread(target=self._weather, args=([*proxies, self._share_line],), name="weather")
            weather.start()
            try:
                self._storm(stack)
            finally:
                weather.join()
            for state_dir in self.state_dirs:
                self._finish(state_dir)
            if self.plan.copy_to:
                self._copy_twice()
            yield stamp

    def _storm(self, stack: ExitStack) -> None:
        rival = None
        child = self._start(self.state_dirs[0], "collect", detach=self.plan.detach)
        if self.plan.race:
            rival = self._start(self.state_dirs[1], "collect", clock_min=self.plan.rival_clock_min)
        try:
            for disturbance in self.plan.disturbances:
                child = self._disturb(child, disturbance)
            self._wait(child)
            if rival is not None:
                self._wait(rival)
        finally:
            for process in filter(None, (child, rival)):
                if process.poll() is None:
                    process.kill()
                    process.communicate()

    def _disturb(self, child: subprocess.Popen[str], disturbance: Disturbance) -> subprocess.Popen[str]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(disturbance.delay_s)
        if child.poll() is None:
            self._do(child, disturbance)
        if disturbance.kind in {"pause", "nothing"} and child.poll() is None:
            return child
        self._wait(child)
        run = self.latest(self.state_dirs[0])
        if run is None:
            return self._start(self.state_dirs[0], "collect")
        return self._start(self.state_dirs[0], "attach", run=run.id)

    def _do(self, child: subprocess.Popen[str], disturbance: Disturbance) -> None:
        match disturbance.kind:
            case "kill":
                child.kill()
                self.figures.kills += 1
            case "term":
                child.send_signal(signal.SIGTERM)
                self.figures.signals += 1
            case "interrupt" | "interrupt twice" | "interrupt late":
                child.send_signal(signal.SIGINT)
                self.figures.signals += 1
                if disturbance.kind != "interrupt":
                    time.sleep(disturbance.lasts_s if disturbance.kind == "interrupt late" else 0.2)
                    child.send_signal(signal.SIGINT)
            case "pause":
                child.send_signal(signal.SIGSTOP)
                time.sleep(disturbance.lasts_s)
                child.send_signal(signal.SIGCONT)
                self.figures.pauses += 1
            case "stop":
                run = self.latest(self.state_dirs[0])
                if run is not None:
                    self.figures.stops += 1
                    self._wait(self._start(self.state_dirs[0], "stop", run=run.id))

    def _finish(self, state_dir: Path) -> None:
        """In fair weather somebody attaches; that must be enough."""
        for _ in range(_CALM_ATTEMPTS):
            run = self.latest(state_dir)
            if run is None or (run.state.is_final and not can_be_tried_again(run)):
                return
            self.figures.attaches += 1
            self._wait(self._start(state_dir, "attach", run=run.id))

    def attach_at_rest(self, run: RunRecord) -> RunRecord:
        """The same run, after somebody has attached to it when everything was over."""
        for state_dir in self.state_dirs:
            found = self.latest(state_dir)
            if found is not None and found.id == run.id:
                self.figures.attaches += 1
                self._wait(self._start(state_dir, "attach", run=run.id))
                return self.latest(state_dir) or run
        raise ViolationError(f"run {run.id} is in no journal any longer")

    def _copy_twice(self) -> None:
        """Two people deliver one bundle to one place at once; one may be killed. Then it is done once more."""
        run = self.latest(self.state_dirs[0])
        if run is None or run.state not in {RunState.DONE, RunState.PARTIAL}:
            return
        match self.plan.copy_to:
            case "folder":
                self.copy = Place.parse(str(self.root / "copy"))
            case "share":
                self.share_path.mkdir(exist_ok=True)
                self.copy = Place.parse(self.lab.samba.url("bundles", f"{self._share_folder}/copy"))
                self.copy_access = self.lab.samba.credential
            case _:
                container = self.lab.azurite.new_container()
                self.copy = Place.parse(self.lab.azurite.container_url(container))
                self.copy_access = self.lab.azurite.sas(container, "racwdl")
        facts = {
            "bundle": f"{self.destination.text}/{run.bundle_name}",
            "copy": self.copy.text,
            "copy_access": _document(self.copy_access),
        }
        self.figures.copies += 1
        both = [self._start(self.state_dirs[0], "deliver", **facts) for _ in range(2)]
        if self.plan.copy_killed_after_s is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                both[0].wait(self.plan.copy_killed_after_s)
            if both[0].poll() is None:
                both[0].kill()
                self.figures.kills += 1
        for child in both:
            self._wait(child)
        if self.plan.copy_killed_after_s is not None or all("raised" in answer for answer in self.answers[-2:]):
            self._wait(self._start(self.state_dirs[0], "deliver", **facts))
            if "raised" in self.answers[-1]:
                raise ViolationError(f"a bundle cannot be delivered: {self.answers[-1]}")

    def latest(self, state_dir: Path) -> RunRecord | None:
        if not (state_dir / "journal.sqlite").exists():
            return None
        with Journal(state_dir) as journal:
            try:
                return journal.latest()
            except NoSuchRunError:
                return None

    def _start(self, state_dir: Path, verb: str, **facts: Any) -> subprocess.Popen[str]:
        self.figures.clients += 1
        document = {**self._common, "verb": verb, "state_dir": str(state_dir), **facts}
        return client.start(document, self.log)

    def _wait(self, child: subprocess.Popen[str]) -> None:
        try:
            out, _ = child.communicate(timeout=HANG_S)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGABRT)  # faulthandler writes where every thread is
            child.communicate()
            raise ViolationError(f"a client has not ended after {HANG_S:.0f} s") from None
        except ValueError:  # waited for already
            return
        if child.returncode == 0:
            self.answers.append(json.loads(out))
        elif child.returncode not in {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130}:
            raise ViolationError(f"a client ended with {child.returncode}: {self.log.read_text()[-1500:]}")

    # -- the line ------------------------------------------------------------------------------------------------------

    def _weather(self, proxies: list[TcpProxy]) -> None:
        dice = random.Random(self.plan.step)
        began = time.monotonic()
        for gust in self.plan.weather:
            time.sleep(max(0.0, gust.at_s - (time.monotonic() - began)))
            self.figures.cuts += 1
            self._blow(gust, proxies, dice)

    def _blow(self, gust: Gust, proxies: list[TcpProxy], dice: random.Random) -> None:
        *endpoints, share = proxies
        hit = endpoints if dice.random() < 0.5 else endpoints[:1]
        if gust.kind == "share refuse":
            hit = [share]
        elif gust.kind == "all refuse":  # the jump box itself has no network
            hit = proxies
        for proxy in hit:
            match gust.kind:
                case "cut":
                    proxy.cut()
                case "reset":
                    proxy.reset()
                case "stall":
                    proxy.stall()
                case "refuse" | "share refuse" | "all refuse":
                    proxy.refuse()
                    proxy.reset()
                case "swallow":
                    proxy.swallow_answers()
                case "cut after":
                    proxy.cut_after(gust.size_bytes)
                    proxy.cut()
        if gust.kind == "share cut" and "share" in self.plan.way:
            self.lab.samba.cut_connections()
        time.sleep(gust.lasts_s)
        for proxy in hit:
            was_dumb = gust.kind == "swallow"
            proxy.stall(False)
            proxy.refuse(False)
            proxy.swallow_answers(False)
            proxy.cut_after(None)
            if was_dumb:
                proxy.reset()


def can_be_tried_again(run: RunRecord) -> bool:
    return run.state is RunState.FAILED and run.failed_in in {RunState.SEALING, RunState.DELIVERING}


def undisturbed(plan: RunPlan) -> RunPlan:
    """The same collection in fair weather."""
    return replace(
        plan,
        way="folder",
        copy_to="",
        faults=(),
        detach=False,
        race=False,
        disturbances=(),
        weather=(),
        step=-plan.stamp_seed,
    )


def _document(secret: Credential | Secret | None) -> dict[str, str] | None:
    match secret:
        case Credential():
            return {"username": secret.username, "password": secret.password.reveal()}
        case Secret():
            return {"sas": secret.reveal()}
        case _:
            return None
