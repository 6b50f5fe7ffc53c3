"""Manifest lines: what is written is read back, and what is hostile is named and never followed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.bundle._manifest import (
    MAX_LINE_BYTES,
    ManifestEntry,
    ManifestProblem,
    decode_path,
    encode_path,
    format_line,
    parse_manifest,
    parse_sizes,
)
from bridge.errors import UnsafePathError
from bridge.store import check_path

SHA = hashlib.sha256(b"").hexdigest()


def is_safe(path: str) -> bool:
    try:
        check_path(path)
    except UnsafePathError:
        return False
    return True


parts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
safe_paths = st.lists(parts, min_size=1, max_size=4).map(lambda found: "/".join(["data", *found])).filter(is_safe)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)


def in_pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(borders):
        yield data[start:end]


@given(
    st.dictionaries(safe_paths, digests, max_size=20),
    st.lists(st.integers(0, 3000), max_size=10),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_what_is_written_is_read_back_whatever_the_line_ends_and_the_pieces(
    files: dict[str, str], cuts: list[int], line_end: bytes
) -> None:
    content = b"".join(format_line(digest, path) for path, digest in files.items()).replace(b"\n", line_end)
    assert list(parse_manifest(in_pieces(content, cuts))) == [
        ManifestEntry(number, path, digest) for number, (path, digest) in enumerate(files.items(), start=1)
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_encoding_touches_only_cr_lf_and_percent_and_is_undone(path: str) -> None:
    encoded = encode_path(path)
    assert decode_path(encoded) == path
    assert not re.search(r"[\r\n]", encoded)
    assert re.sub(r"%0D|%0A|%25", "", encoded) == re.sub(r"[\r\n%]", "", path)


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=5))
def test_any_bytes_give_one_answer_a_line_and_every_good_answer_is_safe(data: bytes, cuts: list[int]) -> None:
    lines = list(parse_manifest(in_pieces(data, cuts)))
    good = [line for line in lines if isinstance(line, ManifestEntry)]
    assert all(is_safe(line.path) for line in good)
    assert [line.line for line in lines if line.line > 1] == list(range(2, len(data.splitlines()) + 1))


@given(st.lists(st.sampled_from([b"a" * 5000, b"\n", b"\r", b"\r\n", format_line(SHA, "data/x")]), max_size=12))
def test_the_answer_does_not_depend_on_how_the_bytes_arrive(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert list(parse_manifest(pieces)) == list(parse_manifest([data])) == list(parse_manifest(in_pieces(data, [1, 7])))


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../etc/passwd", "leaves its folder"),
        ("data/../../x", "leaves its folder"),
        ("/etc/passwd", "starts or ends with a slash"),
        ("C:/Windows/x", "does not allow"),
        ("data\\x", "does not allow"),
        ("data/nul", "reserved"),
        ("data/COM1.log", "reserved"),
        ("data/a%0Ab", "does not allow"),
        ("data/x\0y", "does not allow"),
        ("data/" + "x" * 300, "longer than 255"),
        ("data/" + "/".join(["x" * 100] * 20), "more than 880"),
    ],
)
def test_an_unsafe_path_is_named_and_is_no_entry(path: str, reason: str) -> None:
    (line,) = parse_manifest([f"{SHA}  {path}\n".encode()])
    assert isinstance(line, ManifestProblem)
    assert line.unsafe is not None
    assert reason in line.detail
    assert line.unsafe.isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"\n",
        b"no digest at all\n",
        SHA[:-1].encode() + b"  data/x\n",
        SHA.encode() + b"\n",
        SHA.encode() + b"  \n",
        SHA.encode() + b"data/x\n",
        SHA.encode() + b"  data/\xff\xfe\n",
        f"{SHA}  data/x\n".encode("utf-16"),
        f"{SHA}  data/x\n".encode("utf-16-le"),
    ],
)
def test_a_line_of_another_form_is_a_problem_and_no_entry(content: bytes) -> None:
    assert all(isinstance(line, ManifestProblem) for line in parse_manifest([content]))
    assert next(parse_manifest([content])).line == 1


def test_a_byte_order_mark_is_named_and_the_line_behind_it_still_read() -> None:
    lines = list(parse_manifest([b"\xef\xbb\xbf" + format_line(SHA, "data/x")]))
    assert [type(line) for line in lines] == [ManifestProblem, ManifestEntry]


def test_a_huge_line_is_passed_over_without_being_kept_and_the_next_line_is_read() -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b"a" * (1 << 20)
        yield b"\r"
        yield b"\n"
        yield format_line(SHA, "data/x")

    problem, entry = parse_manifest(endless())
    assert problem == ManifestProblem(1, f"the line is longer than {MAX_LINE_BYTES} bytes")
    assert entry == ManifestEntry(2, "data/x", SHA)


def test_capital_digits_a_binary_mark_and_one_blank_are_read_as_other_tools_write_them() -> None:
    (line,) = parse_manifest([f"{SHA.upper()} *data/x\n".encode()])
    assert line == ManifestEntry(1, "data/x", SHA)


@pytest.mark.parametrize("size", ["-1", "1.5", "01", "9" * 19, "1e9", "٣"])
def test_a_size_that_is_no_plain_count_is_a_problem(size: str) -> None:
    (line,) = parse_sizes([f"{size}  data/x\n".encode()])
    assert isinstance(line, ManifestProblem)
