"""A plan as a file: written for people and ``collect --plan``, read as if a stranger had written it.

A plan never says where a password goes: the stamp's addresses and a named destination are those of this machine's
configuration, and a plan that was made with others is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bridge import __version__
from bridge.collection import Request
from bridge.doctor._planned import Planned
from bridge.errors import PlanRefusedError
from bridge.files import replace_file
from bridge.stamp import Stamp

_LARGEST_PLAN_BYTES = 1024 * 1024

_Name = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
_Names = Annotated[tuple[_Name, ...], Field(max_length=1000)]
_Location = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedEndpoint(_Model):
    """Where one ERCS machine listened when the plan was made."""

    name: _Name
    host: _Name
    port: int
    https_port: int | None = None


class PlannedOptions(_Model):
    """The options of ``collect``, with the window made exact. ``destination`` is where ``to`` led."""

    since: AwareDatetime
    until: AwareDatetime
    to: _Location
    destination: _Location
    staging: _Location | None = None
    staging_location: _Location | None = None
    roles: _Names = ()
    nodes: _Names = ()
    log_types: _Names = ()
    resource_providers: _Names = ()
    dump_files: bool = False
    recover_vm_logs: bool = False
    timeout_minutes: int = Field(ge=1, le=1440)
    direct: bool = False
    remove_staging: bool = False
    api_version: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = None
    case_number: _Name | None = None
    share_username: _Name | None = None

    def wanted(self) -> dict[str, Any]:
        """The options as ``collect`` takes them."""
        left_out = {"destination", "staging_location", "share_username"}
        options = self.model_dump(exclude=left_out)
        return options | {"since": self.since.isoformat(), "until": self.until.isoformat()}


class PlanDocument(_Model):
    """The whole file. ``expected`` and ``warnings`` are for people; ``commands`` are compared before anything runs."""

    schema_version: Literal[1]
    kind: Literal["pep-bridge plan"]
    tool_version: _Name
    made_at: AwareDatetime
    stamp: _Name
    configuration_name: _Name
    endpoints: Annotated[tuple[PlannedEndpoint, ...], Field(min_length=1, max_length=100)]
    options: PlannedOptions
    script: _Name
    commands: Annotated[list[dict[str, Any]], Field(max_length=100)]
    window: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    warnings: list[str] = []


def plan_document(planned: Planned, options: PlannedOptions, made_at: Any) -> PlanDocument:
    """The file of a plan."""
    stamp = planned.request.stamp
    data = planned.to_json()
    return PlanDocument(
        schema_version=1,
        kind="pep-bridge plan",
        tool_version=__version__,
        made_at=made_at,
        stamp=stamp.name,
        configuration_name=stamp.configuration_name,
        endpoints=_endpoints(stamp),
        options=options,
        script=planned.plan.script,
        commands=planned.commands,
        window=data["window"],
        expected=data["expected"],
        warnings=data["warnings"],
    )


def write_plan(file: Path, document: PlanDocument) -> None:
    """Writes a plan for its owner alone; whoever may change it decides what is collected.

    Raises:
        PlanRefusedError: the file cannot be written.
    """
    try:
        replace_file(file, document.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        fix = "Check the folder and its permissions."
        raise PlanRefusedError(file=file, detail=f"it cannot be written: {error.strerror}", fix=fix) from error


def read_plan(file: Path) -> PlanDocument:
    """Reads a plan; everything in it is bounded and typed, and nothing else may stand there.

    Raises:
        PlanRefusedError: it cannot be read, is too large, or is no plan of this version.
    """
    try:
        if not file.is_file():  # a pipe would be waited for
            raise PlanRefusedError(file=file, detail="it is not there, or no plain file")
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_size > _LARGEST_PLAN_BYTES:
                raise PlanRefusedError(file=file, detail="it is too large to be a plan")
            content = opened.read(_LARGEST_PLAN_BYTES + 1)
    except OSError as error:
        raise PlanRefusedError(file=file, detail=f"it cannot be read: {error.strerror}") from error
    try:
        return PlanDocument.model_validate_json(content)
    except ValidationError as error:
        raise PlanRefusedError(file=file, detail=_first_problem(error)) from None


def check_plan(
    file: Path, document: PlanDocument, request: Request, commands: Callable[[], list[dict[str, Any]]]
) -> None:
    """Whether what would run now is what the plan says.

    Args:
        request: what this machine's configuration makes of the plan's options.
        commands: the commands that it would send.

    Raises:
        PlanRefusedError: the stamp, a place or a command is another one.
    """
    stamp, options = request.stamp, document.options
    if document.stamp.casefold() != stamp.name.casefold():
        raise PlanRefusedError(file=file, detail=f"it is for the stamp {document.stamp}, not for {stamp.name}")
    if document.endpoints != _endpoints(stamp) or document.configuration_name != stamp.configuration_name:
        raise PlanRefusedError(file=file, detail=f"the addresses of {stamp.name} are not those that it was made with")
    places = (
        (request.destination.location, options.destination),
        (request.staging.location if request.staging else None, options.staging_location),
    )
    for here, planned in places:
        if here != planned:
            raise PlanRefusedError(file=file, detail=f"it was made for {planned}, which here is {here}")
    if document.commands != commands():
        raise PlanRefusedError(file=file, detail="its commands are not those that this version would send for it")


def _endpoints(stamp: Stamp) -> tuple[PlannedEndpoint, ...]:
    return tuple(
        PlannedEndpoint(name=each.name, host=each.host, port=each.port, https_port=each.https_port)
        for each in stamp.endpoints
    )


def _first_problem(error: ValidationError) -> str:
    """The place and kind of what is wrong; never its value, which a stranger chose."""
    problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(ascii(part).strip("'")[:60] for part in problem["loc"])
    return f"{where or 'the file'}: {problem['msg'][:200]}"
