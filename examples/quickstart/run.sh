#!/usr/bin/env bash
# Run the whole method on real data, with fairseq's own commands. Finished stages are skipped, so
# an interrupted run continues where it stopped. The logs of all commands are in $WORK/logs.
#
#   SCALE=small|default|large   amount of data and training (default: default); `smoke`, for the
#                               test suite, only checks that everything runs
#   WORK=DIR                    folder for all output (default: examples/quickstart/runs/$SCALE)
#   OWN=DIR SRC=xx TGT=yy       your own parallel text: DIR/{train,valid,test}.{xx,yy}
#   MEMBERS, STUDENTS, SEEDS, CACHED, STUDENT_EPOCHS, VOCABULARY, TARGETS, START, UNTIL
#                               see below; the scripts in examples/study set them
#   REMAKE=1                    make stages again whose inputs or options have changed since;
#                               without it, they are refused
set -euo pipefail
cd "$(dirname "$0")/../.."

SCALE=${SCALE:-default}
BATCH=2000 WARMUP=400 OOD='*'
case $SCALE in
  small)
    PAIRS=8000 MAX_WORDS=8 EVAL=200 EPOCHS=4 BEAM=1 EVALUATED=1 BATCH=1000
    VOCABULARY=${VOCABULARY:-2000} WARMUP=200 OOD='[fp]*' # French and permuted
    MEMBERS=${MEMBERS:-3} STUDENT_EPOCHS=${STUDENT_EPOCHS:-1} ;;
  default)
    PAIRS=20000 MAX_WORDS=14 EVAL=600 EPOCHS=6 BEAM=5
    MEMBERS=${MEMBERS:-4} STUDENT_EPOCHS=${STUDENT_EPOCHS:-2} EVALUATED=$MEMBERS ;;
  large)
    PAIRS=35000 MAX_WORDS=60 EVAL=1500 EPOCHS=30 BEAM=5
    MEMBERS=${MEMBERS:-4} STUDENT_EPOCHS=${STUDENT_EPOCHS:-8} EVALUATED=$MEMBERS ;;
  smoke)
    PAIRS=500 MAX_WORDS=14 EVAL=40 EPOCHS=1 STUDENT_EPOCHS=1 BEAM=1 EVALUATED=1
    MEMBERS=2 VOCABULARY=${VOCABULARY:-500} ;;
  *) echo "error: SCALE must be small, default or large, not '$SCALE'" >&2; exit 2 ;;
esac
VOCABULARY=${VOCABULARY:-4000}      # subwords
TARGETS=${TARGETS:-ensemble}        # of the transfer set; or reference
START=${START:-member1}             # of the students; or random
STUDENTS=${STUDENTS:-send pd_send2} # criterions
SEEDS=${SEEDS:-1}                   # students of each criterion
CACHED=${CACHED:-}                  # criterions whose students are trained from a teacher cache
SRC=${SRC:-en} TGT=${TGT:-de}
WORK=${WORK:-examples/quickstart/runs/$SCALE}
BIN=${BIN:-.venv/bin}
HERE=examples/quickstart
PLUGIN="--user-dir ${PLUGIN:-fairseq_pdd}"

# Two small models at a time use two cores better than one model on both.
CORES=$(nproc)
JOBS=$((CORES > 1 ? 2 : 1))
export OMP_NUM_THREADS=$((CORES / JOBS))
DEVICE=--cpu
if command -v nvidia-smi > /dev/null; then DEVICE= JOBS=1; fi

. examples/lib/jobs.sh # say, job, background, finish

say "1. data"
if [ -n "${OWN:-}" ]; then
  DATA_ARGS=(--own "$OWN" --source-lang "$SRC" --target-lang "$TGT")
else
  DATA_ARGS=(--cache examples/quickstart/runs/downloads)
fi
$BIN/python $HERE/ddtp.py --out "$WORK/text" --max-words $MAX_WORDS --train-pairs $PAIRS \
  --max-eval $EVAL --max-valid $EVAL "${DATA_ARGS[@]}"
SETS=(test)
for path in "$WORK"/text/ood_$OOD."$SRC"; do SETS+=("$(basename "$path" ".$SRC")"); done

say "2. subwords and binarisation"
job spm 'error' "$WORK/text" $BIN/python $HERE/subwords.py "$WORK/text" "$WORK/spm" \
  --languages $SRC $TGT --vocabulary $VOCABULARY
prefixes=$(printf "$WORK/spm/%s," "${SETS[@]}")
job bin 'sents' "$WORK/spm" $BIN/fairseq-preprocess --source-lang $SRC --target-lang $TGT \
  --trainpref "$WORK/spm/train" --validpref "$WORK/spm/valid" --testpref "${prefixes%,}" \
  --joined-dictionary --destdir "$WORK/bin" --workers 2

# fairseq-preprocess names the sets test, test1, test2, … in the given order
subset() {
  local i
  for i in "${!SETS[@]}"; do
    if [ "${SETS[$i]}" = "$1" ]; then echo "test${i#0}"; fi
  done
}

TRAIN=($DEVICE --arch transformer_iwslt_de_en --share-all-embeddings
  --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 512
  --decoder-layers 2 --decoder-embed-dim 128 --decoder-ffn-embed-dim 512
  --dropout 0.1 --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1.0
  --max-tokens $BATCH --no-epoch-checkpoints --no-progress-bar --log-interval 50)

say "3. ensemble: $MEMBERS models that differ in their seed"
for seed in $(seq $MEMBERS); do
  # the plugin is needed for resuming only: since torch 2.6, fairseq cannot load its own checkpoints
  # unless argparse.Namespace is allowed in them
  background "member$seed" 'valid on' "$WORK/bin" \
    $BIN/fairseq-train "$WORK/bin" $PLUGIN "${TRAIN[@]}" \
      --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
      --lr 4e-3 --lr-scheduler inverse_sqrt --warmup-updates $WARMUP \
      --max-epoch $EPOCHS --seed "$seed" --save-dir "$WORK/member$seed"
done
finish
checkpoints=$(printf "$WORK/member%s/checkpoint_best.pt:" $(seq $MEMBERS))
ENSEMBLE=${checkpoints%:}

# Without a bound on the length, one output that never ends delays the whole batch.
LENGTH=(--max-len-a 1.5 --max-len-b 10)

say "4. transfer set: the training source as the ensemble translates it"
job transfer 'translating|pairs|error' "$WORK/bin:$ENSEMBLE" \
  $BIN/fairseq-pdd transfer-set "$WORK/bin" --path "$ENSEMBLE" --destdir "$WORK/transfer" \
    --targets $TARGETS --beam $BEAM --workers $JOBS -- "${LENGTH[@]}" $DEVICE

say "5. students, from $START: $STUDENTS"
if [ -n "$CACHED" ]; then
  job cache 'error|tokens' "$WORK/transfer:$ENSEMBLE" \
    $BIN/fairseq-pdd teacher-cache "$WORK/transfer" --path "$ENSEMBLE" --destdir "$WORK/cache" \
      --workers $JOBS
fi
student() { # CRITERION SEED
  local teacher=(--teacher-paths "$ENSEMBLE") inputs=$WORK/transfer:$ENSEMBLE
  local start=(--finetune-from-model "$WORK/member1/checkpoint_best.pt"
    --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 100)
  if [ "$START" = random ]; then
    start=(--lr 4e-3 --lr-scheduler inverse_sqrt --warmup-updates $WARMUP)
  fi
  if [[ " $CACHED " == *" $1 "* ]]; then
    teacher=(--teacher-cache "$WORK/cache") inputs+=:$WORK/cache
  fi
  background "$1-seed$2" 'valid on|teacher:' "$inputs" \
    $BIN/fairseq-train "$WORK/transfer" $PLUGIN --task distill_translation \
      --criterion "$1" "${teacher[@]}" "${TRAIN[@]}" \
      "${start[@]}" --max-epoch $STUDENT_EPOCHS --seed "$2" --save-dir "$WORK/$1-seed$2"
}
for seed in $(seq "$SEEDS"); do
  for criterion in $STUDENTS; do student "$criterion" "$seed"; done
done
finish
if [ "${UNTIL:-}" = students ]; then return 0 2> /dev/null || exit 0; fi

say "6. translation with uncertainty: $EVALUATED single model(s), ensemble, students"
# the ensemble's translations of the test set are the targets of the column 'NLL Ens-Pred'
job ensemble_test 'pairs|error' "$WORK/bin:$ENSEMBLE" \
  $BIN/fairseq-pdd transfer-set "$WORK/bin" --subset test --path "$ENSEMBLE" --beam 5 \
    --destdir "$WORK/ensemble_test" -- "${LENGTH[@]}" $DEVICE
translate() { # SYSTEM CHECKPOINTS OPTIONS…
  local out=$WORK/records/$1 set runs=()
  for set in "${SETS[@]}"; do
    runs+=(-- "$WORK/bin" --gen-subset "$(subset "$set")" --beam 5
      --uncertainty-path "$out/$set.jsonl")
  done
  runs+=(-- "$WORK/bin" --gen-subset test --score-reference --uncertainty-path "$out/nll.jsonl")
  runs+=(-- "$WORK/ensemble_test" --gen-subset train --score-reference
    --uncertainty-path "$out/nll_ensemble.jsonl")
  background "records/$1" Translated "$WORK/bin:$WORK/ensemble_test:$2" \
    $BIN/python examples/lib/generate_each.py $PLUGIN --task distill_translation --path "$2" \
      $DEVICE --quiet --post-process sentencepiece "${LENGTH[@]}" --max-tokens 12000 \
      --required-batch-size-multiple 1 "${@:3}" "${runs[@]}"
}
for seed in $(seq $EVALUATED); do
  translate "member$seed" "$WORK/member$seed/checkpoint_best.pt"
done
translate ensemble "$ENSEMBLE"
for seed in $(seq "$SEEDS"); do
  for criterion in $STUDENTS; do
    translate "$criterion-seed$seed" "$WORK/$criterion-seed$seed/checkpoint_best.pt"
  done
done
finish

say "7. results"
$BIN/python $HERE/table.py "$WORK/records" --out "$WORK"
