#!/usr/bin/env bash
# Make the paper's Table 3 with fairseq's own recipe of LibriSpeech, on a node with GPUs. Finished
# stages are skipped, so an interrupted run continues where it stopped. Logs are in $WORK/logs.
#
#   LIBRISPEECH=DIR      the corpus: DIR/train-clean-100/…
#   OOD="NAME=FILE …"    out-of-domain speech, such as ami=ami.tsv (see prepare.py); test-other is
#                        always one of the sets
#   WORK=DIR             folder for all output
#   DATA=DIR             features and manifests ($WORK/data); used unchanged if it has a config.yaml,
#                        for example from fairseq's own script
#   GPUS=N               number of GPUs of the node; batches are those of eight
#   REMAKE=1             make stages again whose inputs or options have changed since; without it,
#                        they are refused
# More settings are below. With eight GPUs, the run takes about as long as nine models.
set -euo pipefail
cd "$(dirname "$0")/../.."

HERE=examples/librispeech
WORK=${WORK:-$HERE/runs} BIN=${BIN:-.venv/bin}
DATA=${DATA:-$WORK/data} OOD=${OOD:-} GPUS=${GPUS:-8}
TRAIN_PARTS=${TRAIN_PARTS:-train-clean-100 train-clean-360 train-other-500}
VALID_PARTS=${VALID_PARTS:-dev-clean dev-other}
VOCABULARY=${VOCABULARY:-10000} WORKERS=${WORKERS:-$(nproc)}
MEMBERS=${MEMBERS:-6} EVALUATED=${EVALUATED:-$MEMBERS} STUDENTS=${STUDENTS:-send pd_send2}
UPDATES=${UPDATES:-300000} STUDENT_UPDATES=${STUDENT_UPDATES:-$UPDATES}
WARMUP=${WARMUP:-10000} MAX_TOKENS=${MAX_TOKENS:-40000}
# number of last epochs whose checkpoints are averaged: 10 on fairseq's page, 30 in the paper
AVERAGE=${AVERAGE:-10}
# further options of fairseq-train, and options of all commands (--fp16, --cpu)
MODEL=${MODEL:---arch s2t_transformer_s --lr 2e-3}
DEVICE=${DEVICE:-}
PLUGIN="--user-dir fairseq_pdd"

JOBS=1
. examples/lib/jobs.sh # say, job, background, finish
comma() { local IFS=,; echo "$*"; }

say "1. data: features, subwords, manifests"
if [ ! -e "$DATA/config.yaml" ]; then
  : "${LIBRISPEECH:?set LIBRISPEECH to the folder of train-clean-100 and the other parts}"
  job data 'error' '' $BIN/python $HERE/prepare.py "$LIBRISPEECH" "$DATA" --train $TRAIN_PARTS \
    --held-out $VALID_PARTS test-clean test-other --list $OOD --vocabulary $VOCABULARY \
    --workers $WORKERS
fi

# What the models are made of. The zip of the features is too large to read each time; the manifests
# have the place and the length of each utterance in it.
MANIFESTS=$(find "$DATA" -maxdepth 1 -type f ! -name '*.zip' -printf '%p:')

# the options of fairseq's page, except --task and --criterion
TRAIN=("$DATA" $PLUGIN --config-yaml config.yaml $DEVICE --num-workers 4
  --train-subset "$(comma $TRAIN_PARTS)" --valid-subset "$(comma $VALID_PARTS)"
  --max-tokens $MAX_TOKENS --update-freq $(((8 + GPUS - 1) / GPUS))
  --share-decoder-input-output-embed --optimizer adam --lr-scheduler inverse_sqrt
  --warmup-updates $WARMUP --clip-norm 10.0 --no-progress-bar --keep-last-epochs $AVERAGE $MODEL)

# make the mean of a model's last checkpoints, $WORK/averages/MODEL.pt, while the run goes on
average() { # MODEL
  background "averages/$1.pt" 'averaged' "$WORK/$1/checkpoint_last.pt" $BIN/fairseq-pdd \
    average-checkpoints --inputs "$WORK/$1" --num-epoch-checkpoints $AVERAGE \
    --output "$WORK/averages/$1.pt"
}
mkdir -p "$WORK/averages"

say "2. ensemble: $MEMBERS models that differ in their seed"
for seed in $(seq $MEMBERS); do
  job "member$seed" 'valid on' "$MANIFESTS" $BIN/fairseq-train "${TRAIN[@]}" --task speech_to_text \
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --report-accuracy \
    --max-update $UPDATES --seed "$seed" --save-dir "$WORK/member$seed"
  average "member$seed"
done
finish
checkpoints=$(printf "$WORK/averages/member%s.pt:" $(seq $MEMBERS))
ENSEMBLE=${checkpoints%:}

say "3. students: $STUDENTS"
for criterion in $STUDENTS; do
  job "$criterion" 'valid on|teacher:' "$MANIFESTS$ENSEMBLE" $BIN/fairseq-train "${TRAIN[@]}" \
    --task distill_speech_to_text --criterion "$criterion" --teacher-paths "$ENSEMBLE" \
    --max-update $STUDENT_UPDATES --seed 1 --save-dir "$WORK/$criterion"
  average "$criterion"
done

say "4. recognition with uncertainty"
recognise() { # SYSTEM CHECKPOINTS
  local out=$WORK/records/$1 name runs=()
  runs+=(-- --gen-subset test-clean --uncertainty-path "$out/test.jsonl")
  for name in test-other $(printf '%s\n' $OOD | cut -d= -f1); do
    runs+=(-- --gen-subset "$name" --uncertainty-path "$out/ood_$name.jsonl")
  done
  runs+=(-- --gen-subset test-clean --score-reference --uncertainty-path "$out/nll.jsonl")
  job "records/$1" 'Translated|WER' "$MANIFESTS$2" \
    $BIN/python examples/lib/generate_each.py "$DATA" $PLUGIN --task distill_speech_to_text \
    --config-yaml config.yaml --path "$2" $DEVICE --quiet --max-tokens 50000 \
    --required-batch-size-multiple 1 --beam 5 --scoring wer "${runs[@]}"
}
for seed in $(seq $EVALUATED); do
  recognise "single-seed$seed" "$WORK/averages/member$seed.pt"
done
recognise ensemble "$ENSEMBLE"
finish
for criterion in $STUDENTS; do recognise $criterion "$WORK/averages/$criterion.pt"; done

say "5. results"
$BIN/fairseq-pdd assess table "$WORK/records" --kind speech --markdown "$WORK/table.md" \
  --json "$WORK/table.json"
