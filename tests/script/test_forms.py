"""Every form of line that the vendor's articles and operators use means what the corpus says it means."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.script_verdicts import comparable, judge, load_lines

HEADER, *FORMS = load_lines("forms.jsonl")


@pytest.mark.parametrize("form", FORMS, ids=[repr(form["text"]) for form in FORMS])
def test_a_form_means_what_the_corpus_says(form: dict[str, Any]) -> None:
    verdict = judge(form["text"], HEADER["variables"], HEADER["arguments"])
    assert verdict.reason == form.get("reason")
    if verdict.commands is not None:
        assert verdict.commands == comparable(form["commands"])


def test_what_powershell_refuses_is_refused_except_the_splat_of_bound_parameters() -> None:
    accepted = [form["text"] for form in FORMS if form["engine"] != "convert" and form["verdict"] == "convert"]
    assert accepted == ["param($a) x @PSBoundParameters"]


def test_lines_on_which_the_bridge_differs_are_marked() -> None:
    for form in FORMS:
        assert form.get("deliberate", False) == ((form["engine"] == "convert") != (form["verdict"] == "convert"))
