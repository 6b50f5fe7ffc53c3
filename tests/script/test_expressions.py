"""Expressions are computed as both versions of PowerShell compute them, or refused."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from bridge.endpoint import Hashtable, Int64, Value
from bridge.endpoint.script import convert_text
from bridge.errors import ScriptRefusedError

SINCE = datetime(2024, 3, 12, 8, 30, tzinfo=UTC)


def compute(expression: str) -> Value:
    [command] = convert_text(f"x {expression}", variables={"since": SINCE, "name": "log"})
    [parameter] = command.parameters
    return parameter.value


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("('a' + 'b' + 5)", "ab5"),
        ("('a' + 1.50)", "a1.5"),
        ("(5 + '5')", 10),
        ("(1 + 2 * 3)", 7),
        ("((1 + 2) * 3)", 9),
        ("(7 / 2)", 3.5),
        ("(-7 % 3)", -1),
        ("(2147483647 + 1)", 2147483648.0),
        ("(5L + 1)", Int64(6)),
        ("(1.1d + 1)", Decimal("2.1")),
        ("(1 - -1)", 2),
        ("(-'5')", -5),
        ("('ab' * 2)", "abab"),
        ("(1, 2 + 3)", (1, 2, 3)),
        ("('a', 'b' -join '-')", "a-b"),
        ("('{0}/{1:d3} {{}}' -f 'a', 5)", "a/005 {}"),
        ("(3..1)", (3, 2, 1)),
        ("@(1; 2, 3)", (1, 2, 3)),
        ("$()", None),
        ("@($())", ()),
        ("@($null)", (None,)),
        ("(, (1, 2))", ((1, 2),)),
        ("@{ a = 1; 'b c' = 'd', 'e' }", Hashtable((("a", 1), ("b c", ("d", "e"))))),
        ("@{ a = @{ b = 1 } }.A.b", 1),
        ("('a', 'b')[-1]", "b"),
        ("('a', 'b')[0, 1]", ("a", "b")),
        ("'abc'.Substring(1, 1).ToUpper()", "B"),
        ("'a b'.Split(' ')", ("a", "b")),
        ('"$using:name-$(1 + 1)-$true"', "log-2-True"),
        ('"$using:since"', "03/12/2024 08:30:00"),
        ("([int]'0x10')", 16),
        ("([int]5.5)", 6),
        ("([int]6.5)", 6),
        ("([string[]](1, 2))", ("1", "2")),
        ("([bool]'False')", True),
        ("(-not '')", True),
        ("('a' -eq 'A')", True),
        ("(1 -lt 2 -and 2 -ge 2)", True),
        ("([datetime]'2024-03-12T08:00:00+02:00')", datetime(2024, 3, 12, 6, tzinfo=UTC)),
        ("([datetime]'2024-03-12T08:00:00Z').AddDays(-1).AddHours(1.5)", datetime(2024, 3, 11, 9, 30, tzinfo=UTC)),
        ("([datetime]'2024-03-12T08:00:00Z' - [timespan]'1.02:00:00')", datetime(2024, 3, 11, 6, tzinfo=UTC)),
        ("($using:since).AddHours(-8)", datetime(2024, 3, 12, 0, 30, tzinfo=UTC)),
        ("($using:since).Date", datetime(2024, 3, 12, tzinfo=UTC)),
        ("($using:since).ToString('yyyy-MM-ddTHH:mm:ss')", "2024-03-12T08:30:00"),
        ("([datetime]::SpecifyKind([datetime]'2024-03-12', 'Utc'))", datetime(2024, 3, 12, tzinfo=UTC)),
        ("([datetime]::new(2024, 3, 12).ToUniversalTime().Year)", 2024),
    ],
)
def test_an_expression_is_computed(expression: str, expected: Value) -> None:
    found = compute(expression)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "(Get-Date)",
        "([datetime]::Now.Foo())",
        "([datetime]'2024-03-12')",
        "([datetime]'03/12/2024')",
        "([datetime]'2024-02-30T00:00:00Z')",
        "([DateTimeOffset]::Now)",
        "([timespan]'01:00')",
        "([datetime]::UtcNow.AddHours(0.0000001))",
        "([datetime]'9999-12-31T00:00:00Z').AddDays(5)",
        "([io.file]::ReadAllText('x'))",
        "([environment]::MachineName)",
        "([math]::PI)",
        "('abc')[0]",
        "('abc' -replace 'b', 'x')",
        "('abc' -match 'b')",
        "('{0}' -f [datetime]::Now)",
        "('{5}' -f 1)",
        '"$(0.1 + 0.2)"',
        "(1 / 0)",
        "(1.5 % 1)",
        "('a' - 1)",
        "(1e308 * 10)",
        "('é'.ToUpper())",
        "([int]'abc')",
        "([int]'99999999999')",
        "([xml]'<a/>')",
        "@{ a = 1; A = 2 }",
        "@{ (1, 2) = 3 }",
        "(1, 2)[5]",
        "($true ? 1 : 2)",
        "(1 ?? 2)",
        "(1)?.Length",
        "([int])",
        "($using:since = 1)",
        "(1..200000)",
        '"`e"',
        '"`u{41}"',
        "0b1",
        "7u",
        "1e400",
        "@using:name",
    ],
)
def test_what_cannot_be_computed_for_certain_is_refused(expression: str) -> None:
    with pytest.raises(ScriptRefusedError) as caught:
        compute(expression)
    assert caught.value.advice
