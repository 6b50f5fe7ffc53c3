"""Whatever is thrown at the reader, it refuses or reads; what it reads prints back to the same commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.endpoint import Command, Hashtable, Int64, Parameter, Value
from bridge.endpoint._commands import NumberLiteral
from bridge.endpoint.script import check_text, convert_text, format_command, format_commands, format_value
from bridge.errors import ScriptRefusedError
from bridge.secrets import Credential, Secret
from tests.support.script_verdicts import load_lines, printed

_, *FORMS = load_lines("forms.jsonl")
PIECES = [
    *("Get-AzureStackLog", "-FilterByRole", "ACS,ECE", "'a'", '"b$using:x"', "$using:x", "@using:t", "$true", "$null"),
    *(
        "@{a=1}",
        "@(1)",
        "(1,2)",
        "([int]'5')",
        "('a'+'b')",
        "5",
        "5L",
        "1.5",
        "-A:",
        "-A:1",
        "--",
        "--%",
        "2>&1",
        "*>&1",
    ),
    *("`", "`n", "\\\\nas\\d$", "#", "<#", "#>", "{", "}", "(", ")", "[", "]", ",", ";", "|", "&", ".", "$", "@", "%"),
    *("?", "!", "=", ":", "..", "-5", "-and", "-join", "+", "*", "/", "@'", "'@", '@"', '"@', "“", "”", "‘", "–", "—"),
    *("é", "\u00a0", "\ud7ff", "\uffff", "if", "foreach", "param(", "$a", "[string]", "[datetime]", "::UtcNow"),
]
texts = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*PIECES, " ", "\n", "\t", "\r\n"]), max_size=12).map("".join),
    st.lists(st.sampled_from([*PIECES, "\n"]), max_size=12).map(" ".join),
    st.sampled_from([form["text"] for form in FORMS]),
)
ordinary = st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.text(ordinary, max_size=12),
    st.sampled_from(["--%", "-A", "'", "’‘", "$x", "`", '"', "@'\n'@", "a\r\nb", "#", " "]),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: str(number) != "-0.0"),
    st.decimals(-(10**15), 10**15, places=4),
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.replace(tzinfo=UTC)),  # noqa: DTZ001
)
values: st.SearchStrategy[Value] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(ordinary, max_size=6).map(str.casefold), inner, max_size=3).map(
            lambda table: Hashtable(tuple(table.items()))
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts)
def test_any_text_is_read_or_refused_and_what_is_read_prints_back_to_the_same(text: str) -> None:
    variables: dict[str, Value] = {"x": "v", "t": Hashtable((("Role", "ACS"), ("Switch", True)))}
    commands: tuple[Command, ...] | None = None
    refusal: ScriptRefusedError | None = None
    try:
        commands = convert_text(text, variables=variables, arguments=("p",))
    except ScriptRefusedError as error:
        refusal = error
    if commands is None:
        assert refusal is not None
        assert refusal.advice
        assert refusal.fields["line"] >= 1
        assert refusal.fields["column"] >= 1
        return
    again = convert_text(format_commands(commands))
    assert printed(again) == printed(commands)


@settings(max_examples=600, deadline=None)
@given(values)
def test_any_value_prints_back_to_itself(value: Value) -> None:
    [command] = convert_text(f"x {format_value(value)}")
    assert command.parameters == (Parameter(None, value),)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_checking_any_text_never_fails(text: str) -> None:
    for problem in check_text(text):
        assert problem.detail
        assert problem.fix


@pytest.mark.parametrize(
    "text", ["(" * 5000, "x " + "(" * 5000, "x " + "@(" * 5000, 'x "' + "$(" * 5000, "x " + "{" * 5000]
)
def test_text_that_is_nested_without_end_is_refused(text: str) -> None:
    with pytest.raises(ScriptRefusedError):
        convert_text(text)


def test_a_text_that_would_grow_without_end_is_refused() -> None:
    with pytest.raises(ScriptRefusedError, match=r"more than|too large"):
        convert_text("x ('a' * 99999 + 'a' * 99999)")


def test_a_large_script_is_read_whole() -> None:
    text = "a`tb" * 20_000
    [command, *others] = convert_text(f'x "{text}"\n' + "y 'z' # c\n" * 2000)
    assert command.parameters == (Parameter(None, "a\tb" * 20_000),)
    assert len(others) == 2000


def test_secrets_are_not_printed() -> None:
    command = Command(
        "x", (Parameter("-C:", Credential("D\\u", Secret("hunter22"))), Parameter("-S:", Secret("hunter22")))
    )
    assert "hunter22" not in format_command(command)


def test_a_number_keeps_the_text_that_powershell_sends_beside_it() -> None:
    [command] = convert_text("x 007 -A:007 5 1.50 2.5d 5L")
    assert command.parameters == (
        Parameter(None, NumberLiteral(7, "007")),
        Parameter("-A:", 7),
        Parameter(None, 5),
        Parameter(None, NumberLiteral(1.5, "1.50")),
        Parameter(None, NumberLiteral(Decimal("2.5"), "2.5d")),
        Parameter(None, NumberLiteral(Int64(5), "5L")),
    )


def test_dates_are_counted_from_the_present_with_their_zone() -> None:
    before = datetime.now(UTC)
    [command] = convert_text("x ([datetime]::UtcNow.AddHours(-8)) ([datetime]::Now.AddHours(-8))")
    for parameter in command.parameters:
        assert isinstance(parameter.value, datetime)
        assert parameter.value.tzinfo is not None
        assert timedelta(0) <= parameter.value - (before - timedelta(hours=8)) < timedelta(minutes=5)
