"""A collection, from what is asked to a sealed and delivered bundle; every run survives the process that drives it."""

from bridge.collection._deliver import Delivered, deliver
from bridge.collection._documents import DATA_WARNING
from bridge.collection._events import (
    DeliveryProgress,
    Event,
    HashProgress,
    Landed,
    LineChanged,
    RecordArrived,
    RoleLanded,
    StateChanged,
    Waiting,
    Warned,
    plain_line,
)
from bridge.collection._history import HistoryRow, export_csv, export_json, read_history
from bridge.collection._journal import Delivery, Journal, RunRecord, Step
from bridge.collection._lock import LockSettings, LockState, read_lock
from bridge.collection._outcome import Outcome
from bridge.collection._parts import default_ports
from bridge.collection._plan import Plan, Way, choose_way, plan_run
from bridge.collection._ports import Ports
from bridge.collection._reopening import has_something_to_do
from bridge.collection._request import Access, Consent, Place, Request, Trigger
from bridge.collection._roles import DOCUMENTED_ROLES, unknown_roles
from bridge.collection._run import attach, collect, is_live, show, stop
from bridge.collection._settings import Settings, read_settings
from bridge.collection._states import LEGAL, RunState
from bridge.collection._window import Window, parse_window
from bridge.collection._work import Control

__all__ = [
    "DATA_WARNING",
    "DOCUMENTED_ROLES",
    "LEGAL",
    "Access",
    "Consent",
    "Control",
    "Delivered",
    "Delivery",
    "DeliveryProgress",
    "Event",
    "HashProgress",
    "HistoryRow",
    "Journal",
    "Landed",
    "LineChanged",
    "LockSettings",
    "LockState",
    "Outcome",
    "Place",
    "Plan",
    "Ports",
    "RecordArrived",
    "Request",
    "RoleLanded",
    "RunRecord",
    "RunState",
    "Settings",
    "StateChanged",
    "Step",
    "Trigger",
    "Waiting",
    "Warned",
    "Way",
    "Window",
    "attach",
    "choose_way",
    "collect",
    "default_ports",
    "deliver",
    "export_csv",
    "export_json",
    "has_something_to_do",
    "is_live",
    "parse_window",
    "plain_line",
    "plan_run",
    "read_history",
    "read_lock",
    "read_settings",
    "show",
    "stop",
    "unknown_roles",
]
