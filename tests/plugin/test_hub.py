"""The Python interfaces: fairseq's hypotheses have measures, ours have them as plain values."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from fairseq import checkpoint_utils, hub_utils
from fairseq.models.transformer import TransformerModel

import fairseq_pdd
from fairseq_pdd.errors import UsageError
from fairseq_pdd.generation import HypothesisScorer, make_scorer

from . import inprocess, naive
from .inprocess import load

SENTENCES = ["baba defi kugo", "lafi", "日本 größe nigo pode"]


@pytest.fixture(scope="module")
def hub(workspace):
    def interface(path):
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(path)])
        return hub_utils.GeneratorHubInterface(cfg, task, models)

    return interface


@pytest.mark.parametrize("arguments", [{}, {"sampling": True, "beam": 2}])
def test_every_hypothesis_has_its_measures(workspace, hub, capsys, arguments):
    student = hub(workspace.pd_send2)
    encoded = [student.encode(s) for s in SENTENCES]
    capsys.readouterr()
    outputs = student.generate(encoded, **{"beam": 4, **arguments})
    assert "U-" not in capsys.readouterr().out
    assert len(outputs) == len(SENTENCES)
    for source, hypotheses in zip(encoded, outputs):
        assert len(hypotheses) == arguments.get("beam", 4)
        scorer = make_scorer([load(workspace.pd_send2)], pad=1, eos=2)
        sample = {
            "net_input": {
                "src_tokens": source.unsqueeze(0),
                "src_lengths": torch.tensor([len(source)]),
            }
        }
        (expected,) = scorer.score(sample, [[h["tokens"] for h in hypotheses]])
        for hypothesis, values in zip(hypotheses, expected):
            assert hypothesis["uncertainty"]["sequence"] == pytest.approx(
                values["sequence"], rel=1e-4, abs=1e-5
            )
            assert len(hypothesis["uncertainty"]["token"]["rmi"]) == len(hypothesis["tokens"])


def test_from_pretrained(workspace):
    student = TransformerModel.from_pretrained(
        str(workspace.pd_send2.parent), "checkpoint_best.pt", str(workspace.data)
    )
    (hypotheses,) = student.generate([student.encode(SENTENCES[0])], beam=2)
    assert hypotheses[0]["uncertainty"]["sequence"]["rmi"] > 0
    assert isinstance(student.translate(SENTENCES[0]), str)


def test_a_student_of_send_has_total_and_score(workspace, hub):
    student = hub(workspace.send)
    (hypotheses,) = student.generate([student.encode(SENTENCES[0])], beam=2)
    sequence = hypotheses[1]["uncertainty"]["sequence"]
    assert {key for key, value in sequence.items() if value is not None} == {"total", "score"}


def test_an_ensemble(workspace):
    # plain translation checkpoints do not name our task
    _, _, task = checkpoint_utils.load_model_ensemble_and_task([str(workspace.pd_send2)])
    models, cfg, _ = checkpoint_utils.load_model_ensemble_and_task(
        [str(workspace.transformer), str(workspace.lstm)], task=task
    )
    ensemble = hub_utils.GeneratorHubInterface(cfg, task, models)
    (hypotheses,) = ensemble.generate([ensemble.encode(SENTENCES[2])], beam=3)
    for hypothesis in hypotheses:
        assert hypothesis["uncertainty"]["sequence"]["mutual_information"] > 0
        assert hypothesis["uncertainty"]["log_prob"] == pytest.approx(
            hypothesis["positional_scores"].sum().item(), rel=1e-4
        )


@pytest.fixture(scope="module")
def student(workspace):
    return fairseq_pdd.load(workspace.pd_send2)


def test_translate(workspace, student):
    outputs = student.translate(SENTENCES, beam=3)
    assert [output.source for output in outputs] == SENTENCES
    model = load(workspace.pd_send2)
    for output in outputs:
        assert output.text == " ".join(output.tokens[:-1])
        assert output.tokens[-1] == "</s>"
        source = student.encode(output.source)
        target = torch.tensor([student.tgt_dict.index(token) for token in output.tokens])
        lists, means = naive.columns(
            naive.student_scores(naive.decode(model, source, target), target)
        )
        assert output.log_prob == pytest.approx(-sum(lists["score"]), rel=1e-4)
        assert output.sequence == pytest.approx(means, rel=1e-4, abs=1e-5)
        assert output.token.keys() == lists.keys()
        for name, column in lists.items():
            assert output.token[name] == pytest.approx(column, rel=1e-4, abs=1e-5)
        assert output.expr is None
        json.dumps(dataclasses.asdict(output))  # plain values


def test_results_are_those_of_fairseq_generate(workspace, student, tmp_path):
    """The hub and the command have the same sentences."""
    file = tmp_path / "out.jsonl"
    inprocess.generate(workspace.data, workspace.pd_send2, "--nbest", 3, "--uncertainty-path", file)
    records = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    records = [record for record in records if "<unk>" not in record["source"]]
    sources = list(dict.fromkeys(record["source"] for record in records))
    by_rank = dict(zip(sources, student.n_best(sources, beam=3)))
    for record in records:
        output = by_rank[record["source"]][record["rank"]]
        assert (output.text, output.tokens) == (record["hypothesis"], record["tokens"])
        assert output.sequence == pytest.approx(record["sequence"], rel=1e-4, abs=1e-5)


def test_score_of_translations_equals_translate(student):
    outputs = student.translate(SENTENCES, beam=2, lenpen=0.5)
    for scored, output in zip(student.score(SENTENCES, [o.text for o in outputs]), outputs):
        assert (scored.source, scored.text, scored.tokens) == (
            output.source, output.text, output.tokens,
        )  # fmt: skip
        assert scored.log_prob == pytest.approx(output.log_prob, rel=1e-4)
        assert scored.sequence == pytest.approx(output.sequence, rel=1e-4, abs=1e-5)


def test_only_returned_hypotheses_are_scored(student, monkeypatch):
    scored = []
    score = HypothesisScorer.score

    def count(self, sample, hypotheses, *others):
        scored.extend(map(len, hypotheses))
        return score(self, sample, hypotheses, *others)

    monkeypatch.setattr(HypothesisScorer, "score", count)
    student.translate(SENTENCES, beam=4)
    assert scored == [1] * len(SENTENCES)


def test_an_ensemble_of_plain_checkpoints(workspace):
    """The members are of two architectures and of fairseq's own task."""
    ensemble = fairseq_pdd.load([workspace.transformer, str(workspace.lstm)], workspace.data)
    joined = fairseq_pdd.load(workspace.teachers)
    for output, same in zip(ensemble.translate(SENTENCES), joined.translate(SENTENCES)):
        assert output == same
        assert output.sequence["mutual_information"] > 0
        assert output.expr["sequence"]["rmi"] > 0
        assert len(output.expr["token"]["rmi"]) == len(output.tokens)


def test_a_plain_model(workspace):
    (output,) = fairseq_pdd.load(workspace.transformer).score(["lafi"], ["ifal"])
    available = {name for name, value in output.sequence.items() if value is not None}
    assert available == {"total", "score"}
    assert output.token["rmi"] is None


def test_subwords(workspace, tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        input=str(workspace.text / "train.xx"), model_prefix=str(tmp_path / "spm"),
        vocab_size=60, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    model = fairseq_pdd.load(
        workspace.pd_send2, bpe="sentencepiece", sentencepiece_model=tmp_path / "spm.model"
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    subwords = pieces.encode("baba lafi", out_type=str)
    expected = model.src_dict.encode_line(" ".join(subwords), add_if_not_exist=False)
    assert model.encode("baba lafi").tolist() == expected.tolist()
    (output,) = model.translate(["baba lafi"])
    assert output.text == pieces.decode(output.tokens[:-1])


def test_no_sentences(student):
    assert student.translate([]) == student.score([], []) == []


def test_errors_name_the_wrong_argument(workspace, student, tmp_path):
    for call, message in (
        (lambda: student.translate("lafi"), "list of sentences"),
        (lambda: student.score("lafi", "ifal"), "list of sentences"),
        (lambda: student.score(["lafi"], []), "1 sources, but 0 targets"),
        (lambda: student.translate(["lafi"], beem=2), "no option beem"),
        (lambda: fairseq_pdd.load([]), "none was given"),
        (lambda: fairseq_pdd.load(tmp_path / "none.pt"), "none.pt"),
        (lambda: fairseq_pdd.load(workspace.lstm, bep="x"), "no option bep"),
        (lambda: fairseq_pdd.load(workspace.lstm, data=tmp_path / "no"), "does not exist"),
    ):
        with pytest.raises(UsageError, match=message):
            call()


def test_other_dictionaries_are_refused(workspace, tmp_path):
    for side in ("xx", "yy"):
        text = (workspace.data / f"dict.{side}.txt").read_text("utf-8")
        (tmp_path / f"dict.{side}.txt").write_text(f"{text}extra 1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="source dictionary of"):
        fairseq_pdd.load(workspace.lstm, data=tmp_path, source_lang="xx", target_lang="yy")


def test_any_iterable_of_sentences(student):
    lines = [f"{sentence}\n" for sentence in SENTENCES]
    expected = student.translate(SENTENCES, beam=2)
    for outputs in (
        student.translate((line for line in lines), beam=2),
        student.translate(iter(tuple(lines)), beam=2),
        [best for best, _ in student.n_best((line for line in lines), beam=2)],
        student.score(iter(lines), (output.text for output in expected)),
    ):
        assert [output.source for output in outputs] == lines
        assert [output.tokens for output in outputs] == [output.tokens for output in expected]


def test_a_long_sentence_is_found_before_the_search(student, monkeypatch):
    monkeypatch.setattr(student.task, "inference_step", pytest.fail)
    with pytest.raises(UsageError, match=r"sources\[2\], 'baba baba"):
        student.translate(["lafi", "kugo", "baba " * 5000])


def test_max_tokens_of_load(workspace):
    model = fairseq_pdd.load(workspace.pd_send2, max_tokens=2000)
    (output,) = model.translate(["baba " * 900], beam=1, max_len_b=3)
    assert len(output.tokens) == 4


def test_empty_sentences_and_targets(student):
    empty, words = student.translate(["", "lafi"])
    assert empty.source == ""
    assert empty.log_prob < 0
    assert words.tokens == student.translate(["lafi"])[0].tokens
    (scored,) = student.score(["lafi"], [""])
    assert scored.tokens == ["</s>"]
    assert scored.log_prob == pytest.approx(-scored.token["score"][0])


def test_unknown_words_only_are_reported(student, caplog):
    (output,) = student.translate(["zzz qqq"])
    assert output.tokens[-1] == "</s>"
    assert "sources[0], 'zzz qqq', has unknown symbols only" in caplog.text


def test_options_of_the_search_have_their_effect(student):
    plain = student.translate(SENTENCES, beam=4)
    longer = student.translate(SENTENCES, beam=4, min_len=9, max_len_b=9)
    assert all(len(output.tokens) == 10 for output in longer)
    assert [o.tokens for o in plain] != [o.tokens for o in longer]


def test_options_of_the_search_are_defaults_in_load(workspace, student):
    model = fairseq_pdd.load(workspace.pd_send2, min_len=9, max_len_b=9)
    assert model.translate(SENTENCES) == student.translate(SENTENCES, min_len=9, max_len_b=9)


def test_bpe_of_another_kind_than_that_of_the_training(workspace, student, tmp_path):
    state = torch.load(workspace.pd_send2, weights_only=False)
    state["cfg"]["bpe"] = {
        "_name": "sentencepiece",
        "sentencepiece_model": "/deleted/spm.model",
        "sentencepiece_enable_sampling": False,
        "sentencepiece_alpha": None,
    }
    path = tmp_path / "model.pt"
    torch.save(state, path)
    with pytest.raises(UsageError, match=r"/deleted/spm\.model"):
        fairseq_pdd.load(path)
    model = fairseq_pdd.load(path, bpe="characters")
    assert model.encode("ab c").tolist() == student.encode("a b ▁ c").tolist()
    plain = fairseq_pdd.load(path, bpe=None)
    assert plain.translate(SENTENCES) == student.translate(SENTENCES)


def test_members_of_two_bpes_need_one(workspace, tmp_path):
    state = torch.load(workspace.lstm, weights_only=False)
    state["cfg"]["bpe"] = "characters"
    path = tmp_path / "second.pt"
    torch.save(state, path)
    with pytest.raises(UsageError, match=r"second.pt was trained with bpe characters, .*None"):
        fairseq_pdd.load([workspace.transformer, path])
    assert len(fairseq_pdd.load([workspace.transformer, path], bpe=None).models) == 2


def test_validation_by_bleu_needs_no_tools_of_the_training(workspace, tmp_path):
    state = torch.load(workspace.pd_send2, weights_only=False)
    state["cfg"]["task"].update(eval_bleu=True, eval_bleu_detok="no such tokenizer")
    path = tmp_path / "model.pt"
    torch.save(state, path)
    assert fairseq_pdd.load(path).translate(["lafi"])[0].log_prob < 0


def test_files_and_options_of_other_runs_are_not_those_of_the_checkpoint(
    workspace, student, tmp_path
):
    state = torch.load(workspace.pd_send2, weights_only=False)
    state["cfg"]["task"]["uncertainty_path"] = str(tmp_path / "older.jsonl")
    state["cfg"]["generation"].update(replace_unk="/deleted", score_reference=True, lenpen=9.0)
    path = tmp_path / "model.pt"
    torch.save(state, path)
    (tmp_path / "older.jsonl").write_text("older\n")
    assert fairseq_pdd.load(path).translate(SENTENCES) == student.translate(SENTENCES)
    assert (tmp_path / "older.jsonl").read_text() == "older\n"


def test_one_encoded_sentence_is_searched_like_several(student):
    options = {"beam": 2, "prefix_allowed_tokens_fn": lambda _, tokens: [2, 5, 6]}
    tokens = student.encode(SENTENCES[0])
    alone, (listed,) = student.generate(tokens, **options), student.generate([tokens], **options)
    assert [h["tokens"].tolist() for h in alone] == [h["tokens"].tolist() for h in listed]
    assert all(set(h["tokens"].tolist()) <= {2, 5, 6} for h in alone)


def test_a_path_with_a_colon(workspace, student, tmp_path):
    path = tmp_path / "a:b" / "model.pt"
    path.parent.mkdir()
    path.write_bytes(workspace.pd_send2.read_bytes())
    assert fairseq_pdd.load(path).translate(SENTENCES) == student.translate(SENTENCES)


def test_a_new_tokenizer_takes_the_languages_of_the_model(workspace, monkeypatch):
    languages = []
    moses = SimpleNamespace(MosesTokenizer=languages.append, MosesDetokenizer=languages.append)
    monkeypatch.setitem(sys.modules, "sacremoses", moses)
    fairseq_pdd.load(workspace.pd_send2, tokenizer="moses")
    assert languages[-2:] == ["xx", "yy"]
    fairseq_pdd.load(workspace.lstm, tokenizer="moses")
    assert languages[-2:] == ["xx", "yy"]
