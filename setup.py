"""Packaging of fairseq_pdd; versions that were tested together stand in constraints.txt."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$', (HERE / "fairseq_pdd/version.py").read_text(), re.MULTILINE
)
assert VERSION is not None

setup(
    name="fairseq_pdd",
    version=VERSION.group(1),
    description="Ensemble distribution distillation with proxy targets, as a fairseq plugin",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.9",
    packages=find_packages(include=["fairseq_pdd", "fairseq_pdd.*"]),
    package_data={
        "fairseq_pdd": ["py.typed"],
        "fairseq_pdd.report": ["page.html", "page.css", "page.js"],
    },
    install_requires=[
        # the module `fairseq`; official fairseq 0.12.2 stops at Python 3.10
        "fairseq-fixed>=0.12.3.1; python_version >= '3.11'",
        "fairseq>=0.12.2; python_version < '3.11'",
        "torch>=2.6",  # the first whose torch.load is safe by default, which fairseq relies on
        "jiwer>=4",
        "matplotlib",
        "numpy",
        "orjson",
        "rich",
        "sacrebleu>=2",
        "scikit-learn",
        "scipy",
        "sentencepiece",
        "tabulate",
        "tqdm",
        "typer",
    ],
    extras_require={
        "dev": [
            "hypothesis",
            "mpmath",
            "mypy",
            "playwright",
            "pytest",
            "pytest-xdist",
            "ruff",
            "types-tabulate",
        ],
        "images": ["torchvision"],
        "speech": ["editdistance", "soundfile", "torchaudio"],
    },
    entry_points={"console_scripts": ["fairseq-pdd = fairseq_pdd.cli.main:app"]},
)
