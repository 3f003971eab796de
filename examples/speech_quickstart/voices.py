"""Text-to-speech engines of Debian, flite and eSpeak NG: synthetic voices."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGES = ("flite", "espeak-ng")
LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
# flite's English voices: a diphone voice, and three statistical ones, of speakers from the United
# States (rms, slt) and Scotland (awb)
FLITE = ("kal16", "awb", "rms", "slt")
# eSpeak NG: a voice of the language, and variants of it
ESPEAK = ("", "+f3", "+m3", "+f5")
WORDS_PER_MINUTE = 155  # of eSpeak NG at a stretch of 1, about as fast as flite


class EngineError(Exception):
    """An engine failed; the message is one line for the user."""


class Engines:
    """The engines, run from a folder that holds their unpacked packages and all libraries."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.libraries = [str(self.root / folder) for folder in LIBRARIES]
        # libpulsecommon is in a folder of its own
        self.libraries.append(f"{self.libraries[-1]}/pulseaudio")

    def flite(self, text: str, voice: str, stretch: float) -> bytes:
        """Read English text, `stretch` times as long as usual; return a WAV file."""
        options = ["--setf", f"duration_stretch={stretch:.3f}", "-o", "/dev/stdout"]
        return self._run("flite", "-voice", voice, *options, "-t", text)

    def espeak(self, text: str, voice: str, stretch: float) -> bytes:
        """Read text, about as fast as flite with the same stretch; return a WAV file."""
        speed = str(round(WORDS_PER_MINUTE / stretch))
        return self._run("espeak-ng", "-v", voice, "-s", speed, "--stdout", text)

    def _run(self, program: str, *options: str) -> bytes:
        # the packages' own loader and C library, so that the system's may be older or newer
        command = [
            str(self.root / LOADER),
            *("--library-path", ":".join(self.libraries)),
            str(self.root / "usr/bin" / program),
            *options,
        ]
        environment = {"ESPEAK_DATA_PATH": str(self.root / LIBRARIES[1])}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise EngineError(
                f"{program} cannot be run ({error.__class__.__name__}); Debian's packages for "
                f"amd64 are in {self.root}: delete it to unpack them again"
            ) from error
        return done.stdout
