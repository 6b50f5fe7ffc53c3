"""The vendor's lists, and which alert is on them."""

from __future__ import annotations

import pytest

from bridge.watch import LISTED_ALERTS, Alert, AlertList, AlertSelection


def alert(fault: str = "", title: str = "", severity: str = "Critical") -> Alert:
    return Alert("1", fault, title, severity)


def test_the_lists_have_as_many_rows_as_the_articles() -> None:
    counts = {which: sum(which in row.lists for row in LISTED_ALERTS) for which in AlertList}
    assert counts == {AlertList.OLDER: 23, AlertList.UPDATE_2102: 2, AlertList.SINCE_2108: 4}


def test_an_alert_on_two_lists_is_one_row_of_both() -> None:
    [row] = [row for row in LISTED_ALERTS if row.fault_type_id == "AzureStack.ComputeController.HostUnresponsive"]
    assert row.lists == {AlertList.OLDER, AlertList.SINCE_2108}


@pytest.mark.parametrize("row", LISTED_ALERTS, ids=lambda row: row.fault_type_id)
def test_every_listed_alert_counts_when_it_is_critical_and_not_when_it_is_a_warning(row: object) -> None:
    fault = row.fault_type_id  # type: ignore[attr-defined]
    assert AlertSelection().selects(alert(fault))
    assert not AlertSelection().selects(alert(fault, severity="Warning"))
    assert AlertSelection(warnings=True).selects(alert(fault, severity="Warning"))


def test_the_id_with_the_blank_that_the_articles_print_is_the_same_alert() -> None:
    assert AlertSelection().selects(alert("StorageResourceProvider. DataStoreConnectionFail"))


def test_an_alert_without_an_id_is_known_by_its_title() -> None:
    assert AlertSelection().selects(alert(title="scale unit node is OFFLINE"))
    assert not AlertSelection().selects(alert(title="Scale unit node is tired"))


def test_an_unlisted_id_with_a_listed_title_does_not_count() -> None:
    assert not AlertSelection().selects(alert("Somebody.Elses", "Update failed"))


def test_where_no_severity_is_told_the_id_tells_it() -> None:
    assert not AlertSelection().selects(alert("Urp.UpdateWarning", severity=""))
    assert AlertSelection().selects(alert("Urp.UpdateFailure", severity=""))


def test_an_operator_adds_and_takes_away_alerts() -> None:
    chosen = AlertSelection(more=("ServiceFabricClusterUnhealthy",), fewer=("urp.updatefailure",))
    assert chosen.selects(alert("ServiceFabricClusterUnhealthy", severity="Warning"))
    assert not chosen.selects(alert("Urp.UpdateFailure"))
