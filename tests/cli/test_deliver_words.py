"""What ``deliver`` says at its end of the bytes that it sent and of those that were there."""

from __future__ import annotations

import pytest

from bridge.collection import Delivered
from cli.deliver import _sent

MB = 1_000_000


@pytest.mark.parametrize(
    ("sent", "there", "whole", "said"),
    [
        (50 * MB, 0, 0, "50.0 MB"),
        (52 * MB, 0, 0, "52.0 MB, the requests and what was sent again included"),
        (23 * MB, 27 * MB, 3, "23.0 MB; 27.0 MB was there already, 3 whole files among it"),
        (40 * MB, 10 * MB, 0, "40.0 MB; 10.0 MB was there already, of files that were not whole"),
        (0, 50 * MB, 1, "0 B; 50.0 MB was there already, 1 whole file among it"),
        (25 * MB, 27 * MB, 1, "25.0 MB, the requests and what was sent again included; 27.0 MB was there already, "),
    ],
)
def test_what_was_sent_and_what_was_there_are_told(sent: int, there: int, whole: int, said: str) -> None:
    delivered = Delivered(
        bundle="//nas/logs/b",
        bundle_name="b",
        bundle_id="id",
        files=9,
        size_bytes=50 * MB,
        bytes_sent=sent,
        files_skipped=whole,
        bytes_there=there,
    )
    assert _sent(delivered).startswith(said)
