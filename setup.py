"""Packaging of fairseq_pdd; versions that were tested together stand in constraints.txt."""

from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSIONS = run_path(str(HERE / "fairseq_pdd/version.py"))
# by module: the errors about packages that are not installed need it as well
REQUIREMENTS = run_path(str(HERE / "fairseq_pdd/_requirements.py"))


def version(numbers: "tuple[int, ...]") -> str:
    return ".".join(map(str, numbers))


setup(
    name="fairseq_pdd",
    version=VERSIONS["__version__"],
    description="Ensemble distribution distillation with proxy targets, as a fairseq plugin",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    classifiers=[
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=f">={version(VERSIONS['OLDEST_PYTHON'])}",
    packages=find_packages(include=["fairseq_pdd", "fairseq_pdd.*"]),
    package_data={
        "fairseq_pdd": ["py.typed"],
        "fairseq_pdd.report": ["page.html", "page.css", "page.js"],
    },
    # training, transfer sets, caches, and generation with records; EXTRAS has all else
    install_requires=[
        # the module `fairseq`; official fairseq 0.12.2 stops at Python 3.10
        "fairseq-fixed>=0.12.3.1; python_version >= '3.11'",
        "fairseq>=0.12.2,<0.13; python_version < '3.11'",
        f"torch>={version(REQUIREMENTS['OLDEST_TORCH'])}",
        "numpy",
        "orjson",
        "rich",
        "sacrebleu>=2",
        "scipy",
        "sentencepiece",
        "tqdm",
        "typer",
    ],
    extras_require={
        **{name: [*packages.values()] for name, packages in REQUIREMENTS["EXTRAS"].items()},
        "dev": [
            "hypothesis",
            "mpmath",
            "mypy",
            "playwright",
            "pytest",
            "pytest-xdist",
            "ruff",
            # the examples of WMT and IWSLT
            "sacremoses",
            "subword-nmt",
            "types-tabulate",
        ],
    },
    entry_points={"console_scripts": ["fairseq-pdd = fairseq_pdd.cli.main:app"]},
)
