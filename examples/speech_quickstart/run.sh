#!/usr/bin/env bash
# Run the whole method on speech, with fairseq's own commands. Finished stages are skipped, so an
# interrupted run continues where it stopped. The logs of all commands are in $WORK/logs.
#
#   SCALE=default|large   amount of training (default: default); `smoke`, for the test suite, only
#                         checks that everything runs
#   WORK=DIR              folder for all output (default: examples/speech_quickstart/runs/$SCALE)
#   OWN=FILE              your own recordings: a list with the columns set, audio, text (speech.py)
#   SEEDS=N               number of students of each kind (default: 3)
#   COMPARE=1             train PD-SEnD² also without what is beyond the domain
#   JOBS=N                number of commands at a time (default: one per core)
#   REMAKE=1              make stages again whose inputs or options have changed since; without it,
#                         they are refused
set -euo pipefail
cd "$(dirname "$0")/../.."

SCALE=${SCALE:-default}
MEMBERS=6 TRAINED=4000 BEYOND=1000 EVAL=150 VOCABULARY=100 BEAM=5 DIM=128
case $SCALE in
  default) EPOCHS=5 STUDENT_EPOCHS=4 ;;
  large) EPOCHS=20 STUDENT_EPOCHS=20 TRAINED=20000 ;;
  smoke) EPOCHS=1 STUDENT_EPOCHS=1 MEMBERS=2 SEEDS=${SEEDS:-1} VOCABULARY=40 EVAL=8 BEAM=1 DIM=16 ;;
  *) echo "error: SCALE must be default or large, not '$SCALE'" >&2; exit 2 ;;
esac
SEEDS=${SEEDS:-3} # students of each kind
WORK=${WORK:-examples/speech_quickstart/runs/$SCALE}
BIN=${BIN:-.venv/bin}
HERE=examples/speech_quickstart
PLUGIN="--user-dir fairseq_pdd"
DATA=$WORK/data

# Several small models, one per core, use the cores better than one model on all of them.
DEVICE=--cpu
if command -v nvidia-smi > /dev/null; then DEVICE= JOBS=1; fi
JOBS=${JOBS:-$(nproc)}
export OMP_NUM_THREADS=1

. examples/lib/jobs.sh # say, job, background, finish

say "1. data: features, subwords, manifests"
if [ -n "${OWN:-}" ]; then
  DATA_ARGS=(--own "$OWN")
else
  DATA_ARGS=(--cache $HERE/runs/downloads)
fi
$BIN/python $HERE/speech.py --out "$DATA" --vocabulary $VOCABULARY --max-train $TRAINED \
  --max-beyond $BEYOND --max-eval $EVAL "${DATA_ARGS[@]}"
SETS=(test)
for path in "$DATA"/ood_*.tsv; do SETS+=("$(basename "$path" .tsv)"); done

# fairseq for Python 3.11 skips sentences that do not fill a multiple
BATCHES=(--required-batch-size-multiple 1 --num-workers 0)
TRAIN=($DEVICE "${BATCHES[@]}" --config-yaml config.yaml --valid-subset valid
  --arch s2t_transformer --conv-kernel-sizes 5,5,5 --conv-channels $((2 * DIM))
  --encoder-layers 4 --encoder-embed-dim $DIM --encoder-ffn-embed-dim $((4 * DIM))
  --decoder-layers 2 --decoder-embed-dim $DIM --decoder-ffn-embed-dim $((4 * DIM))
  --encoder-attention-heads 4 --decoder-attention-heads 4 --share-decoder-input-output-embed
  --dropout 0.1 --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 5.0
  --max-tokens 2000 --no-epoch-checkpoints --no-progress-bar --log-interval 50)

say "2. ensemble: $MEMBERS models that differ in their seed"
for seed in $(seq $MEMBERS); do
  # CTC in addition to attention helps to learn the alignment from little speech. The plugin is
  # needed for resuming only: since torch 2.6, fairseq cannot load its own checkpoints unless
  # argparse.Namespace is allowed in them.
  background "member$seed" 'valid on' "$DATA" \
    $BIN/fairseq-train "$DATA" $PLUGIN --task speech_to_text "${TRAIN[@]}" --train-subset train \
      --criterion label_smoothed_cross_entropy_with_ctc --label-smoothing 0.1 --ctc-weight 0.5 \
      --lr 2e-3 --lr-scheduler fixed --force-anneal $((EPOCHS - 1)) --lr-shrink 0.4 \
      --warmup-updates 400 \
      --best-checkpoint-metric nll_loss \
      --max-epoch $EPOCHS --seed "$seed" --save-dir "$WORK/member$seed"
done
finish
checkpoints=$(printf "$WORK/member%s/checkpoint_best.pt:" $(seq $MEMBERS))
ENSEMBLE=${checkpoints%:}

say "3. what the students learn from: the ensemble's probabilities of the training texts"
job cache 'error|tokens' "$DATA:$ENSEMBLE" \
  $BIN/fairseq-pdd teacher-cache "$DATA" --path "$ENSEMBLE" --destdir "$WORK/cache" \
    --subset train,train_beyond,valid --max-tokens 12000 --workers $JOBS $DEVICE

say "4. students: SEnD and PD-SEnD², initialised with member 1 without its CTC head"
job start.pt 'error' "$WORK/member1/checkpoint_best.pt" \
  $BIN/python $HERE/without_ctc.py "$WORK/member1/checkpoint_best.pt" "$WORK/start.pt"
student() { # NAME SEED CRITERION SUBSETS
  STUDENTS+=("$1-seed$2")
  background "$1-seed$2" 'valid on|teacher:' "$DATA:$WORK/cache:$WORK/start.pt" \
    $BIN/fairseq-train "$DATA" $PLUGIN --task distill_speech_to_text "${TRAIN[@]}" \
      --train-subset "$4" --criterion "$3" --teacher-cache "$WORK/cache" \
      --finetune-from-model "$WORK/start.pt" \
      --lr 5e-4 --lr-scheduler fixed --force-anneal $((STUDENT_EPOCHS - 1)) --lr-shrink 0.4 \
      --warmup-updates 100 \
      --max-epoch $STUDENT_EPOCHS --seed "$2" --save-dir "$WORK/$1-seed$2"
}
STUDENTS=()
for seed in $(seq $SEEDS); do
  for criterion in send pd_send2; do
    student $criterion "$seed" $criterion train,train_beyond
  done
  if [ -n "${COMPARE:-}" ]; then student pd_send2_train "$seed" pd_send2 train; fi
done
finish

say "5. recognition with uncertainty: single models, ensemble, students"
recognise() { # SYSTEM CHECKPOINTS
  local out=$WORK/records/$1 set runs=()
  for set in "${SETS[@]}"; do
    runs+=(-- --gen-subset "$set" --beam $BEAM --scoring wer --uncertainty-path "$out/$set.jsonl")
    # references: the same outputs for all systems
    local scored=nll_$set
    if [ "$set" = test ]; then scored=nll; fi
    runs+=(-- --gen-subset "$set" --score-reference --uncertainty-path "$out/$scored.jsonl")
  done
  # Without a bound on the length, one output that never ends delays the whole batch.
  background "records/$1" 'Translated|WER' "$DATA:$2" \
    $BIN/python examples/lib/generate_each.py "$DATA" $PLUGIN --task distill_speech_to_text \
      --config-yaml config.yaml --path "$2" $DEVICE "${BATCHES[@]}" --quiet \
      --max-len-a 0.1 --max-len-b 10 --max-tokens 30000 "${runs[@]}"
}
recognise ensemble "$ENSEMBLE"
for seed in $(seq $MEMBERS); do
  recognise "single-seed$seed" "$WORK/member$seed/checkpoint_best.pt"
done
for student in "${STUDENTS[@]}"; do recognise "$student" "$WORK/$student/checkpoint_best.pt"; done
finish

say "6. results"
job report.html '^error:' "$WORK/records" $BIN/fairseq-pdd report "$WORK/records" \
  --kind speech --out "$WORK/report.html" --title "Speech quickstart"
$BIN/python $HERE/speech_table.py "$WORK/records" --out "$WORK"
echo "Report: $WORK/report.html (open it in a browser)"
