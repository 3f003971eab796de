#!/usr/bin/env bash
# Run the whole method on real speech, with fairseq's own commands. Finished stages are skipped, so
# an interrupted run continues where it stopped. The logs of all commands are in $WORK/logs.
#
#   SCALE=default|large   amount of training (default: default); `smoke`, for the test suite, only
#                         checks that everything runs
#   WORK=DIR              folder for all output (default: examples/speech_quickstart/runs/$SCALE)
#   OWN=FILE              your own recordings: a list with the columns set, audio, text (speech.py)
#   JOBS=N                number of commands at a time (default: one per core)
#   REMAKE=1              make stages again whose inputs or options have changed since; without it,
#                         they are refused
set -euo pipefail
cd "$(dirname "$0")/../.."

SCALE=${SCALE:-default}
MEMBERS=4 VOCABULARY=200 SECONDS_LIMIT=10 EVAL=300 WARMUP=400 BEAM=5 DIM=128
case $SCALE in
  default) EPOCHS=40 STUDENT_EPOCHS=10 EVALUATED=4 ;;
  large) EPOCHS=80 STUDENT_EPOCHS=40 EVALUATED=4 DIM=256 ;;
  smoke) EPOCHS=1 STUDENT_EPOCHS=1 EVALUATED=1 MEMBERS=2 VOCABULARY=40 EVAL=8 BEAM=1 DIM=16 ;;
  *) echo "error: SCALE must be default or large, not '$SCALE'" >&2; exit 2 ;;
esac
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
$BIN/python $HERE/speech.py --out "$DATA" --vocabulary $VOCABULARY --max-eval $EVAL \
  --max-seconds $SECONDS_LIMIT --augment "${DATA_ARGS[@]}"
SETS=(test)
for path in "$DATA"/ood_*.tsv; do SETS+=("$(basename "$path" .tsv)"); done

# fairseq for Python 3.11 skips sentences that do not fill a multiple
BATCHES=(--required-batch-size-multiple 1 --num-workers 0)
TRAIN=($DEVICE "${BATCHES[@]}" --config-yaml config.yaml --train-subset train --valid-subset valid
  --arch s2t_transformer --conv-kernel-sizes 5,5,5 --conv-channels $((2 * DIM))
  --encoder-layers 4 --encoder-embed-dim $DIM --encoder-ffn-embed-dim $((4 * DIM))
  --decoder-layers 2 --decoder-embed-dim $DIM --decoder-ffn-embed-dim $((4 * DIM))
  --encoder-attention-heads 4 --decoder-attention-heads 4 --share-decoder-input-output-embed
  --dropout 0.1 --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 5.0
  --max-tokens 6000 --no-epoch-checkpoints --no-progress-bar --log-interval 50)

say "2. ensemble: $MEMBERS models that differ in their seed"
for seed in $(seq $MEMBERS); do
  # CTC in addition to attention helps to learn the alignment from little speech. The plugin is
  # needed for resuming only: since torch 2.6, fairseq cannot load its own checkpoints unless
  # argparse.Namespace is allowed in them.
  background "member$seed" 'valid on' "$DATA" \
    $BIN/fairseq-train "$DATA" $PLUGIN --task speech_to_text "${TRAIN[@]}" \
      --criterion label_smoothed_cross_entropy_with_ctc --label-smoothing 0.1 --ctc-weight 0.5 \
      --lr 2e-3 --lr-scheduler inverse_sqrt --warmup-updates $WARMUP \
      --best-checkpoint-metric nll_loss \
      --max-epoch $EPOCHS --seed "$seed" --save-dir "$WORK/member$seed"
done
finish
checkpoints=$(printf "$WORK/member%s/checkpoint_best.pt:" $(seq $MEMBERS))
ENSEMBLE=${checkpoints%:}

say "3. students: SEnD and PD-SEnD², initialised with member 1 without its CTC head"
job start.pt 'error' "$WORK/member1/checkpoint_best.pt" \
  $BIN/python $HERE/without_ctc.py "$WORK/member1/checkpoint_best.pt" "$WORK/start.pt"
for criterion in send pd_send2; do
  background $criterion 'valid on|teacher:' "$DATA:$ENSEMBLE:$WORK/start.pt" \
    $BIN/fairseq-train "$DATA" $PLUGIN --task distill_speech_to_text "${TRAIN[@]}" \
      --criterion $criterion --teacher-paths "$ENSEMBLE" \
      --finetune-from-model "$WORK/start.pt" \
      --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 100 \
      --max-epoch $STUDENT_EPOCHS --seed 1 --save-dir "$WORK/$criterion"
done
finish

say "4. recognition with uncertainty: $EVALUATED single model(s), ensemble, students"
recognise() { # SYSTEM CHECKPOINTS
  local out=$WORK/records/$1 set runs=()
  for set in "${SETS[@]}"; do
    runs+=(-- --gen-subset "$set" --beam $BEAM --scoring wer --uncertainty-path "$out/$set.jsonl")
  done
  runs+=(-- --gen-subset test --score-reference --uncertainty-path "$out/nll.jsonl")
  runs+=(-- --gen-subset mismatched --score-reference
    --uncertainty-path "$out/nll_mismatched.jsonl")
  # Without a bound on the length, one output that never ends delays the whole batch.
  background "records/$1" 'Translated|WER' "$DATA:$2" \
    $BIN/python examples/lib/generate_each.py "$DATA" $PLUGIN --task distill_speech_to_text \
      --config-yaml config.yaml --path "$2" $DEVICE "${BATCHES[@]}" --quiet \
      --max-len-a 0.1 --max-len-b 10 --max-tokens 30000 "${runs[@]}"
}
for seed in $(seq $EVALUATED); do
  recognise "single-seed$seed" "$WORK/member$seed/checkpoint_best.pt"
done
recognise ensemble "$ENSEMBLE"
recognise send "$WORK/send/checkpoint_best.pt"
recognise pd_send2 "$WORK/pd_send2/checkpoint_best.pt"
finish

say "5. results"
job report.html '^error:' "$WORK/records" $BIN/fairseq-pdd report "$WORK/records" \
  --kind speech --out "$WORK/report.html" --title "Speech quickstart"
$BIN/python $HERE/speech_table.py "$WORK/records" --out "$WORK"
echo "Report: $WORK/report.html (open it in a browser)"
