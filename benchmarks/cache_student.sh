#!/usr/bin/env bash
# Compare students trained from a teacher cache with students trained from the ensemble itself.
#
#   bash benchmarks/cache_student.sh WORK OUT [SEED…]
#
# WORK is the folder of a finished quickstart (examples/quickstart/runs/default). The script caches
# its ensemble with the default settings. It trains PD-SEnD² from the ensemble and from the cache with
# each seed (default: 1 2), with the quickstart's options. It translates the test set and the
# out-of-domain sets, and prints a table. Finished commands are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=$1 OUT=$2
shift 2
SEEDS=${*:-1 2}
BIN=${BIN:-.venv/bin}
EPOCHS=${EPOCHS:-2}
PLUGIN="--user-dir fairseq_pdd --task distill_translation"
CORES=$(nproc)
JOBS=$((CORES > 1 ? 2 : 1))
export OMP_NUM_THREADS=$((CORES / JOBS))
members=$(printf '%s:' "$WORK"/member*/checkpoint_best.pt)
ENSEMBLE=${members%:}
mkdir -p "$OUT/logs"

# once NAME COMMAND…: start unless it succeeded before, two at a time; `settle` waits
once() {
  local name=$1; shift
  [ -e "$OUT/logs/$name.done" ] && return
  while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do sleep 0.5; done
  echo "$(date +%H:%M:%S) $name" >&2
  { "$@" > "$OUT/logs/$name.log" 2>&1 && touch "$OUT/logs/$name.done" ||
    echo "error: $name failed, see $OUT/logs/$name.log" >&2; } &
}
settle() {
  wait
  for name in "$@"; do [ -e "$OUT/logs/$name.done" ] || exit 1; done
}

once cache $BIN/fairseq-pdd teacher-cache "$WORK/transfer" --path "$ENSEMBLE" \
  --destdir "$OUT/cache" --workers $JOBS --cpu
settle cache

names=
for seed in $SEEDS; do
  for teacher in online cached; do
    if [ $teacher = online ]; then source=(--teacher-paths "$ENSEMBLE")
    else source=(--teacher-cache "$OUT/cache"); fi
    once $teacher-seed$seed $BIN/fairseq-train "$WORK/transfer" $PLUGIN --criterion pd_send2 \
      "${source[@]}" --cpu --arch transformer_iwslt_de_en --share-all-embeddings \
      --encoder-layers 2 --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 \
      --decoder-layers 2 --decoder-embed-dim 128 --decoder-ffn-embed-dim 512 \
      --dropout 0.1 --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1.0 --max-tokens 2000 \
      --finetune-from-model "$WORK/member1/checkpoint_best.pt" \
      --lr 1e-3 --lr-scheduler inverse_sqrt --warmup-updates 100 --max-epoch $EPOCHS \
      --no-epoch-checkpoints --no-progress-bar --seed "$seed" --save-dir "$OUT/$teacher-seed$seed"
    names+=" $teacher-seed$seed"
  done
done
settle $names

translated=
sets=(test $(cd "$WORK/records/ensemble" && printf '%s\n' ood_*.jsonl | sed 's/.jsonl$//'))
for name in $names; do
  for i in "${!sets[@]}"; do
    # fairseq-preprocess named the sets test, test1, test2, …
    subset=test$([ "$i" = 0 ] || echo "$i")
    once $name-${sets[$i]} $BIN/fairseq-generate "$WORK/bin" $PLUGIN --cpu --quiet \
      --path "$OUT/$name/checkpoint_best.pt" --gen-subset $subset --beam 5 \
      --max-len-a 1.5 --max-len-b 10 --post-process sentencepiece --max-tokens 12000 \
      --required-batch-size-multiple 1 --uncertainty-path "$OUT/records/$name/${sets[$i]}.jsonl"
    translated+=" $name-${sets[$i]}"
  done
  once $name-nll $BIN/fairseq-generate "$WORK/bin" $PLUGIN --cpu --quiet \
    --path "$OUT/$name/checkpoint_best.pt" --gen-subset test --score-reference \
    --post-process sentencepiece --max-tokens 12000 --required-batch-size-multiple 1 \
    --uncertainty-path "$OUT/records/$name/nll.jsonl"
  translated+=" $name-nll"
done
settle $translated

$BIN/fairseq-pdd assess table "$OUT/records"
