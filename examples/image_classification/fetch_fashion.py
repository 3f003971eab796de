#!/usr/bin/env python3
"""Fetch Fashion-MNIST from its Debian package, in the layout of torchvision's FashionMNIST.

Needs apt, but not root. ``torchvision.datasets.FashionMNIST(FOLDER, download=True)`` fetches the
same files to the same folder from the authors' server.
"""

import argparse
import gzip
import sys
from pathlib import Path, PurePosixPath

sys.path.append(str(Path(__file__).resolve().parents[1] / "lib"))
from private_apt import AptError, PrivateApt, package_members

from fairseq_pdd.errors import UsageError, show_usage_errors_in_one_line

PACKAGE = "dataset-fashion-mnist"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder to create FashionMNIST/raw in")
    folder: Path = parser.parse_args().folder
    raw = folder / "FashionMNIST" / "raw"
    done = folder / "fetched"
    if done.exists():
        return
    raw.mkdir(parents=True, exist_ok=True)
    (folder / "apt").mkdir(exist_ok=True)
    print(f"fetching {PACKAGE} (31 MB) with apt")
    try:
        apt = PrivateApt(folder / "apt", languages=())
        apt.update()
        files = package_members(apt.package(PACKAGE), "-ubyte.gz")
    except AptError as error:
        raise UsageError(
            f"cannot fetch {PACKAGE}: {error}; put Fashion-MNIST's four files into {raw} yourself "
            f"and create {done}"
        ) from None
    for name, content in files.items():
        (raw / PurePosixPath(name).stem).write_bytes(gzip.decompress(content))
    done.touch()


if __name__ == "__main__":
    show_usage_errors_in_one_line()
    main()
