"""Names and texts of a broken or taken-over stamp: for the faults ``hostile-names`` and ``hostile-records``."""

from __future__ import annotations

FILE_NAMES: tuple[str, ...] = (
    "../escaped-from-folder.zip",
    "..\\..\\escaped-backslash.zip",
    "C:\\Windows\\Temp\\drive-letter.zip",
    "CON",
    "aux.zip",
    "COM1.log.zip",
    "stream.zip:hidden",
    "trailing-dot.zip.",
    "trailing-blank.zip ",
    "question?.zip",
    "<script>alert(1)</script>.zip",
    "<img src=x onerror=alert(1)>.zip",
    "control-\x07-bell.zip",
    "right-to-left-\u202egpj.zip",
    f"{'long' * 60}.zip",
    "/".join(["deep-folder-of-thirty-characters"] * 10) + "/300-characters.zip",
)
"""Below the bundle folder. What the destination does not permit is left out."""

MEMBER_NAMES: tuple[str, ...] = (
    "../../../../etc/escaped.txt",
    "..\\..\\..\\escaped.txt",
    "C:\\Windows\\System32\\escaped.txt",
    "/absolute.txt",
    "\\\\server\\share\\escaped.txt",
    "NUL",
    "com1.txt",
    "control-\x01.txt",
    "same-name.txt",
    "SAME-NAME.TXT",
    "x" * 300 + ".txt",
)
"""Inside a zip."""

RECORD_NAMES: tuple[str, ...] = (*FILE_NAMES, "nul-\x00-inside.zip")
"""In the text of records, where nothing keeps a NUL out."""

RECORD_TEXTS: tuple[str, ...] = (
    "\x1b]0;title of your terminal\x07\x1b[2J\x1b[31mred",
    "carriage return\rOVERWRITTEN",
    "[bold red]markup[/bold red] {field} %s %n",
    "_x000D_ _x0000_ _xD800_ escaped like CLIXML",
    "]]></S><S>closes its element",
    "lone surrogate \ud800 in a file name",
    "m" * 1_000_000,
)
