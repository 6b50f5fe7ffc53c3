"""Know before: every check that can be made before a collection, the route to take, and what exactly would run."""

from bridge.doctor._checks import Check, CheckState, Diagnosis, Route, RouteKind, exit_code_of
from bridge.doctor._examine import examine
from bridge.doctor._forecast import Forecast, Spread, make_forecast
from bridge.doctor._plan_file import PlanDocument, PlannedOptions, check_plan, plan_document, read_plan, write_plan
from bridge.doctor._planned import Planned, make_plan
from bridge.doctor._subject import DEFAULT_INTERNET_PROBE, Opener, Subject

__all__ = [
    "DEFAULT_INTERNET_PROBE",
    "Check",
    "CheckState",
    "Diagnosis",
    "Forecast",
    "Opener",
    "PlanDocument",
    "Planned",
    "PlannedOptions",
    "Route",
    "RouteKind",
    "Spread",
    "Subject",
    "check_plan",
    "examine",
    "exit_code_of",
    "make_forecast",
    "make_plan",
    "plan_document",
    "read_plan",
    "write_plan",
]
