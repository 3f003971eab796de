"""The figure of vocabularies.sh, from lines as fairseq logs them."""

import json
import math
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "study"))
import vocabularies

TRAIN = (
    "2026-11-27 18:20:44 | INFO | train_inner | epoch 001:     50 / 711 loss=1.2138, "
    "nll_loss={nll}, ppl=1.39, wps=1636.4, num_updates={updates}, lr=5e-05, gnorm={gnorm}, clip=0"
)
VALID = (
    "2026-11-27 18:22:00 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 0.9211 | "
    "nll_loss {nll} | ppl 1.11 | wps 4615 | num_updates 711"
)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for size in (1000, 4000):
        folder = tmp_path / str(size) / "logs"
        folder.mkdir(parents=True)
        for criterion in vocabularies.NAMES:
            lines = [
                "2026-11-27 18:20:40 | INFO | fairseq_cli.train | {'seed': 1}",
                TRAIN.format(nll=8.0, updates=50, gnorm=0.794),
                TRAIN.format(nll="nan", updates=100, gnorm="inf"),
                VALID.format(nll=6.5),
            ]
            (folder / f"{criterion}-seed1.log").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_values_of_a_log(work: Path) -> None:
    train, valid = vocabularies.read_log(work / "1000" / "logs" / "send2-seed1.log")
    assert [line["num_updates"] for line in train] == [50, 100]
    assert train[0]["nll_loss"] == pytest.approx(8 * math.log(2))  # nats
    assert math.isnan(train[1]["nll_loss"])
    assert [line["gnorm"] for line in train] == [0.794, math.inf]
    assert train[0]["lr"] == 5e-5
    assert [line["nll_loss"] for line in valid] == [pytest.approx(6.5 * math.log(2))]


def test_the_figure_has_all_losses_and_sizes(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["vocabularies.py", str(work), "1000", "4000"])
    vocabularies.main()
    numbers = json.loads((work / "vocabularies.json").read_text())
    assert numbers.keys() == {"1000", "4000"}
    for by_loss in numbers.values():
        assert by_loss.keys() == set(vocabularies.NAMES.values())
        for values in by_loss.values():
            assert values["valid NLL by epoch"] == [pytest.approx(6.5 * math.log(2))]
    assert (work / "vocabularies.png").read_bytes().startswith(b"\x89PNG")
