"""Packages and indexes of Debian, fetched by apt without root.

apt runs with private state (lists, cache, status). So it needs no root and does not change the
system's own lists. It uses the system's list of sources and its keys.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

APT_HELPER = "/usr/lib/apt/apt-helper"
CONFIG = """\
Dir::State "{root}/state";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
// Images often set "none".
#clear Acquire::Languages;
Acquire::Languages {{ {languages} }};
// One architecture, so that every machine reads the same index.
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures {{ "amd64"; }};
// The user _apt may not enter the private folders.
APT::Sandbox::User "root";
// Hooks of the system expect the system's own lists.
#clear APT::Update;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons-hidpi;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large;
#clear Acquire::IndexTargets::deb::DEP-11-icons-large-hidpi;
#clear Acquire::IndexTargets::deb::Contents-deb;
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""


class AptError(Exception):
    """apt is missing or failed; the message is one line for the user."""


class PrivateApt:
    """apt with its state under `root`, which also caches the downloads."""

    def __init__(self, root: Path, languages: tuple[str, ...]) -> None:
        """Set the folder and the languages of descriptions; nothing is fetched yet."""
        for tool in ("apt-get", "dpkg-deb", APT_HELPER):
            if shutil.which(tool) is None:
                raise AptError(f"{tool} is not installed (it is part of Debian and Ubuntu)")
        self.root = root.resolve()
        self.languages = languages
        self.config = self.root / "apt.conf"

    def update(self) -> None:
        """Fetch the indexes, unless an earlier run has fetched all of them."""
        stamp = self.root / "complete"
        if stamp.exists():
            return
        for folder in ("state", "lists/partial", "cache/archives/partial"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        quoted = " ".join(f'"{language}";' for language in self.languages or ("none",))
        self.config.write_text(CONFIG.format(root=self.root, languages=quoted), encoding="utf-8")
        messages = self._run("apt-get", "update").stderr
        # A failed download is only a warning of apt, since other sources may be unavailable.
        missing = [name for name in self.languages if not self.lists(f"i18n_Translation-{name}")]
        if missing or not self.lists("binary-amd64_Packages"):
            what = f"no translations into {', '.join(missing)}" if missing else "no package list"
            raise AptError(f"apt-get update fetched {what}; {first_error(messages)}")
        stamp.touch()

    def lists(self, kind: str, suite: str = "*") -> list[Path]:
        """Return the index files of "main"; other components depend on the system's settings."""
        return sorted(self.root.glob(f"lists/{suite}_main_{kind}*"))

    def suites(self, kind: str) -> list[str]:
        """Return mirror and suite of the indexes of a kind, as arguments of `lists`."""
        return [path.name.rpartition("_main_")[0] for path in self.lists(kind)]

    def read(self, index: Path) -> bytes:
        """Read the text of an index, with any compression."""
        try:
            return self._run(APT_HELPER, "cat-file", str(index)).stdout
        except AptError as error:
            raise AptError(f"{error} (if damaged, delete {self.root} to fetch it again)") from None

    def package(self, name: str) -> Path:
        """Download a package; apt checks its hash against the signed index."""
        pattern = f"{name}_*.deb"
        if not list(self.root.glob(pattern)):
            # apt writes under the final name; an interrupted download must not look complete.
            with tempfile.TemporaryDirectory(dir=self.root) as folder:
                try:
                    self._run("apt-get", "download", name, cwd=Path(folder))
                except AptError as error:
                    raise AptError(
                        f"{error} (after a Debian update, delete {self.root} to start again)"
                    ) from None
                for path in Path(folder).glob(pattern):
                    path.replace(self.root / path.name)
        return sorted(self.root.glob(pattern))[-1]

    def unpack(self, names: Sequence[str]) -> Path:
        """Unpack packages with all that they depend on, the C library included.

        Returns:
            Folder of their files. `archives` has the packages.
        """
        folder = self.root / "-".join(["unpacked", *names])
        if not folder.exists():
            # The private status lists no package as installed, so that apt fetches all of them.
            options = ("--yes", "--no-install-recommends", "--download-only")
            self._run("apt-get", "install", *options, *names)
            partial = Path(tempfile.mkdtemp(dir=self.root))
            for path in self.archives():
                subprocess.run(["dpkg-deb", "--extract", path, partial], check=True)
            partial.replace(folder)
        return folder

    def archives(self) -> list[Path]:
        """Return the packages that `unpack` has fetched."""
        return sorted(self.root.glob("cache/archives/*.deb"))

    def _run(
        self, command: str, *words: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        result = subprocess.run(
            [command, "-c", str(self.config), *words],
            cwd=cwd or self.root,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if result.returncode:
            raise AptError(f"{Path(command).name} {words[0]} failed; {first_error(result.stderr)}")
        return result


def first_error(messages: bytes) -> str:
    """Return the first error or warning among apt's messages, as one line."""
    lines = [line.strip() for line in messages.decode("utf-8", "replace").splitlines()]
    for mark in ("E:", "W:", ""):
        for line in lines:
            if line.startswith(mark) and line:
                return f"apt reports: {line}"
    return "apt gives no reason"


def package_members(package: Path, suffix: str) -> dict[str, bytes]:
    """Read the files of a .deb whose names end with `suffix`."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    members = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.name.endswith(suffix) else None
                    if stream is not None:
                        members[member.name] = stream.read()
        except tarfile.TarError as error:
            raise AptError(
                f"{package} cannot be unpacked ({error}); delete it to fetch it again"
            ) from error
    return members
