"""The report: one page that loads nothing, runs nothing, and shows whatever the documents hold as text."""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.bundle import read_bundle, render_report
from bridge.bundle._report import shown
from bridge.store import FolderStore
from tests.support.bundles import Digest
from tests.support.make_sample_bundle import SAMPLE

BUNDLE = read_bundle(FolderStore(SAMPLE))
COVERAGE = BUNDLE.document("coverage.json")
COLLECTION: dict[str, Any] = {
    **BUNDLE.document("collection.json"),
    "request": {"case_number": "2611230050001234"},
    "times": {
        "planned": "2026-11-23T13:55:00Z",
        "command_sent": "2026-11-23T13:55:07Z",
        "command_ended": "2026-11-23T15:06:12Z",
    },
    "errors": [
        {"at": "2026-11-23T14:00:00Z", "text": f"The share was gone ({number})", "error": {"error_id": "ShareLost"}}
        for number in range(3)
    ],
}
DIGESTS = [Digest("data/a.zip", 1234, "0" * 64), Digest("data/b.zip", 99, "f" * 64)]
HOSTILE = "</style><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">'\"&{{7*7}}"


def page(coverage: Any = COVERAGE, collection: Any = COLLECTION, **options: Any) -> str:
    return render_report(collection=collection, coverage=coverage, digests=DIGESTS, **options).decode("utf-8")


def everywhere(value: Any, hostile: str) -> Any:
    """The document with every string, and every key of a free mapping, made hostile."""
    if isinstance(value, str):
        return value if re.fullmatch(r"[\d-]+T[\d:]+Z", value) else hostile
    if isinstance(value, list):
        return [everywhere(item, hostile) for item in value]
    if isinstance(value, dict):
        return {key: everywhere(item, hostile) for key, item in value.items()}
    return value


class Outline(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


# -- what it shows ----------------------------------------------------------------------------------------------------


def test_the_page_says_what_was_asked_what_arrived_and_how_to_check_it() -> None:
    text = " ".join(" ".join(Outline(page()).text).split())
    for expected in (
        "Stamp west",
        "Partial: less than was asked for was collected.",
        "2 collected, 1 empty",
        "2026-11-23 09:55:00 UTC",
        "2611230050001234",
        "ECE",
        "no log files found in the given time range",
        "ShareLost 3 ×",
        "1 h 11 min 5 s later",
        "sha256sum --strict --quiet -c manifest-sha256.txt",
        "data/a.zip 1.2 KiB " + "0" * 64,
        "Logs may hold personal data.",
    ):
        assert expected in text


def test_steps_of_one_second_or_of_a_clock_that_went_back_have_no_length() -> None:
    times = {
        "planned": "2026-11-23T13:55:00.200Z",
        "command_sent": "2026-11-23T13:55:00.900Z",
        "sealed": "2026-11-23T13:00:00Z",
    }
    text = " ".join(" ".join(Outline(page(collection={**COLLECTION, "times": times})).text).split())
    assert "Planned 2026-11-23 13:55:00 UTC Command sent 2026-11-23 13:55:00 UTC Sealed 2026-11-23 13:00:00 UTC" in text


def test_a_complete_coverage_is_called_complete_and_only_a_true_one() -> None:
    assert "Complete: all" in page({**COVERAGE, "complete": True})
    for other in (False, "true", 1, None):
        assert "Partial: less" in page({**COVERAGE, "complete": other})


def test_known_failures_stand_with_their_meaning_and_fix() -> None:
    failure = {"name": "disk-full", "meaning": "The disk was full.", "fix": "Make room.", "count": 2, "evidence": []}
    text = " ".join(Outline(page({**COVERAGE, "known_failures": [failure]})).text)
    assert "The disk was full." in text
    assert "Make room." in text


def test_the_id_is_shown_on_a_page_that_is_made_after_sealing() -> None:
    rebuilt = render_report(
        collection=COLLECTION, coverage=COVERAGE, digests=BUNDLE.files(), bundle_id=BUNDLE.bundle_id
    ).decode()
    assert BUNDLE.spoken in rebuilt
    assert all(file.sha256 in rebuilt for file in BUNDLE.files())
    assert "Bundle id" not in page()


def test_the_same_documents_give_the_same_bytes() -> None:
    assert page() == page(copy.deepcopy(COVERAGE), copy.deepcopy(COLLECTION))


def test_a_grid_of_any_size_stays_a_page_of_bounded_size() -> None:
    role = {**COVERAGE["roles"][1], "explanation": "x" * 100_000}
    many = {
        **COVERAGE,
        "roles": [{**role, "name": f"Role{number}"} for number in range(5000)],
        "nodes": [{"name": f"AzS-Node{number}"} for number in range(5000)],
        "warnings": ["w" * 10_000] * 5000,
    }
    digests = (Digest(f"data/{number:06}.zip", number, "0" * 64) for number in range(50_000))
    html = render_report(collection=COLLECTION, coverage=many, digests=digests)
    assert len(html) < 8_000_000
    assert b"4600 more roles" in html
    assert b"49000 more files" in html
    assert b"data/049999.zip" in html


# -- hostile documents ------------------------------------------------------------------------------------------------


def test_hostile_text_anywhere_adds_no_element_and_no_attribute() -> None:
    plain, hostile = (
        Outline(page(everywhere(COVERAGE, text), everywhere(COLLECTION, text))) for text in ("plain", HOSTILE)
    )
    assert hostile.tags == plain.tags
    assert HOSTILE in "".join(hostile.text)


@pytest.mark.parametrize("text", ["exe.\u202egpj.zip", "a\0b", "\x1b[31mred", "zero\u200bwidth", "\ud800", "\u2028"])
def test_invisible_and_direction_changing_characters_are_made_visible(text: str) -> None:
    html = page(everywhere(COVERAGE, text))
    assert text not in html
    assert shown(text) in html
    assert "\\u" in shown(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
top_fields = st.sampled_from([*COVERAGE, *COLLECTION])


@given(st.dictionaries(top_fields, json_values, max_size=8), st.dictionaries(top_fields, json_values, max_size=8))
def test_documents_of_any_form_give_a_page(coverage: dict[str, Any], collection: dict[str, Any]) -> None:
    assert page({**COVERAGE, **coverage}, {**COLLECTION, **collection}).endswith("</html>")
    assert page(coverage, collection).endswith("</html>")


@given(json_values, json_values)
def test_what_is_no_document_at_all_gives_a_page(coverage: Any, collection: Any) -> None:
    assert page(coverage, collection).endswith("</html>")


# -- what it must not do ----------------------------------------------------------------------------------------------


def test_the_page_has_no_script_loads_nothing_and_its_policy_says_so() -> None:
    outline = Outline(page())
    assert not {"script", "link", "iframe", "img", "object", "embed", "form", "base"} & {tag for tag, _ in outline.tags}
    for _, attributes in outline.tags:
        assert not {"src", "style", "srcset", "action", "background"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")  # type: ignore[union-attr]
    (policy,) = [meta["content"] for meta in outline.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", page(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style
    assert "@import" not in style


# -- for everybody ----------------------------------------------------------------------------------------------------


def test_the_page_has_what_a_screen_reader_needs() -> None:
    outline = Outline(page())
    assert outline.all("html")[0]["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))
    assert all(cell.get("scope") in {"row", "col"} for cell in outline.all("th"))
    assert all(figure.get("aria-hidden") == "true" for figure in outline.all("svg"))
    ids = {attributes["id"] for _, attributes in outline.tags if "id" in attributes}
    named = {attributes["aria-labelledby"] for _, attributes in outline.tags if "aria-labelledby" in attributes}
    assert named <= ids
    assert {"header", "main", "footer"} <= {tag for tag, _ in outline.tags}


def luminance(colour: str) -> float:
    digits = colour.removeprefix("#")
    full = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(full[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def palettes() -> list[dict[str, str]]:
    css = files("bridge.bundle").joinpath("report.css").read_text(encoding="utf-8")
    return [dict(re.findall(r"--(\w+):(#[0-9a-f]+)", block)) for block in re.findall(r":root\{([^}]*)\}", css)]


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark", "print"])
@pytest.mark.parametrize("ink", ["ink", "soft", "good", "bad", "warn", "dim", "accent"])
def test_text_has_the_contrast_that_wcag_asks_for(palette: dict[str, str], ink: str) -> None:
    for ground in ("ground", "panel"):
        light, dark = sorted((luminance(palette[ink]), luminance(palette[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, success criterion 1.4.3


# -- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium() -> str:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("not run: no Chromium (Debian package chromium)")
    return found


@pytest.fixture
def tempter() -> Iterator[tuple[int, list[bytes]]]:
    """A server that hostile text points at: what it receives, the page let out."""
    received: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    received.append(connection.recv(1000))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1], received
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def browse(chromium: str, html: Path, *options: str) -> subprocess.CompletedProcess[str]:
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    profile = html.parent / "profile"
    always = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
    blocked = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking"]
    command = [chromium, *always, *sandbox, *blocked, "--enable-logging=stderr", *options, html.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True, timeout=120)


def test_chromium_shows_hostile_documents_without_running_or_fetching_anything(
    chromium: str, tempter: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    port, received = tempter
    url = f"http://127.0.0.1:{port}/x"
    refresh = f"<meta http-equiv=refresh content='0;url={url}'>"
    hostile = f"</style></title>{HOSTILE}<img src={url}><link rel=stylesheet href={url}>{refresh}"
    html = tmp_path / "report.html"
    html.write_text(page(everywhere(COVERAGE, hostile), everywhere(COLLECTION, hostile)), encoding="utf-8")
    shown_page = browse(chromium, html, "--dump-dom", "--virtual-time-budget=3000")
    assert received == []
    title = re.search(r"<title>(.*?)</title>", shown_page.stdout, re.DOTALL)
    assert title
    assert title.group(1).startswith("Logs of stamp &lt;/style&gt;")
    assert "CONSOLE" not in shown_page.stderr


def test_the_same_temptation_without_our_escaping_is_seen_by_the_tempter(
    chromium: str, tempter: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    port, received = tempter
    html = tmp_path / "page.html"
    html.write_text(f"<!doctype html><img src=http://127.0.0.1:{port}/x>", encoding="utf-8")
    browse(chromium, html, "--dump-dom", "--virtual-time-budget=3000")
    assert received


def test_chromium_applies_the_style_and_prints_the_page(chromium: str, tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    html.write_text(page(), encoding="utf-8")
    pdf = tmp_path / "report.pdf"
    printed = browse(chromium, html, f"--print-to-pdf={pdf}")
    assert "CONSOLE" not in printed.stderr  # a style that the policy refused would be told there
    assert pdf.read_bytes().startswith(b"%PDF-")
