"""Fashion-MNIST from a Debian package that the tests build; a fake replaces apt."""

import gzip
import subprocess
import sys
from pathlib import Path

import fetch_fashion
import pytest

from fairseq_pdd.errors import UsageError


def fetch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fetch_fashion.py", str(folder)])
    fetch_fashion.main()


def test_files_of_the_package_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Apt:
        def __init__(self, root: Path, languages: tuple) -> None:
            assert root.is_dir()

        def update(self) -> None:
            pass

        def package(self, name: str) -> Path:
            assert name == "dataset-fashion-mnist"
            build = tmp_path / "build"
            (build / "DEBIAN").mkdir(parents=True)
            control = f"Package: {name}\nVersion: 1\nArchitecture: all\n"
            (build / "DEBIAN" / "control").write_text(
                control + "Maintainer: A <a@example.org>\nDescription: images\n"
            )
            (build / "usr").mkdir()
            (build / "usr" / "train-ubyte.gz").write_bytes(gzip.compress(b"pixels"))
            (build / "usr" / "README").write_text("not an image")
            subprocess.run(["dpkg-deb", "--build", build, tmp_path / "a.deb"], check=True)
            return tmp_path / "a.deb"

    monkeypatch.setattr(fetch_fashion, "PrivateApt", Apt)
    fetch(tmp_path / "data", monkeypatch)
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    assert [path.name for path in raw.iterdir()] == ["train-ubyte"]
    assert (raw / "train-ubyte").read_bytes() == b"pixels"
    monkeypatch.setattr(fetch_fashion, "PrivateApt", None)  # a second run needs no apt
    fetch(tmp_path / "data", monkeypatch)


def test_without_apt_the_error_names_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Apt:
        def __init__(self, root: Path, languages: tuple) -> None:
            raise fetch_fashion.AptError("apt is not installed")

    monkeypatch.setattr(fetch_fashion, "PrivateApt", Apt)
    with pytest.raises(UsageError, match=r"apt is not installed.*four files into .*raw"):
        fetch(tmp_path / "data", monkeypatch)


def test_the_script_finds_what_it_imports() -> None:
    script = fetch_fashion.__file__
    assert script is not None
    subprocess.run([sys.executable, script, "--help"], check=True, stdout=subprocess.DEVNULL)
