"""The plain storage SDK, four files at a time: ``python -m bench._sdk FOLDER URL [md5]``, SAS in PEP_BRIDGE_SAS."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from azure.storage.blob import ContainerClient


def main() -> None:
    folder, url, *checked = sys.argv[1:]
    client = ContainerClient.from_container_url(f"{url}?{os.environ['PEP_BRIDGE_SAS']}", api_version="2019-12-12")

    def send(path: Path) -> None:
        with path.open("rb") as file:
            name = path.relative_to(folder).as_posix()
            client.upload_blob(name, file, length=path.stat().st_size, overwrite=True, validate_content=bool(checked))

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(send, [path for path in Path(folder).rglob("*") if path.is_file()]):
            pass


if __name__ == "__main__":
    main()
