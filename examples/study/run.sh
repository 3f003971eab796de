#!/usr/bin/env bash
# The study: the paper's Table 4 with ten members and five seeds of every student, by criterion, and
# how well a student's uncertainty follows its ensemble's. Stages 1 to 7 are those of
# examples/quickstart/run.sh, which this script runs with other settings; it takes hours. Finished
# stages are skipped, so it continues where it stopped.
#
#   SCALE=default|large   amount of data and training, as for the quickstart; `smoke` for the suite
#   WORK=DIR              folder for all output (default: examples/study/runs/$SCALE)
#   MEMBERS, STUDENTS, SEEDS, CACHED, STUDENT_EPOCHS, OWN, SRC, TGT, REMAKE: as for the quickstart
set -euo pipefail

SCALE=${SCALE:-default}
WORK=${WORK:-examples/study/runs/$SCALE}
MEMBERS=${MEMBERS:-10} SEEDS=${SEEDS:-5} STUDENT_EPOCHS=${STUDENT_EPOCHS:-8}
# pd_send2_authors is the loss of the authors' code (study_plugin); send2 needs all members, which
# a cache does not have
STUDENTS=${STUDENTS:-send pd_send2 pd_send2_authors pd_send2_forward send2}
CACHED=${CACHED:-send pd_send2 pd_send2_authors pd_send2_forward}
PLUGIN=examples/study/study_plugin

. "$(dirname "$0")/../quickstart/run.sh"
STUDY=examples/study

say "8. the proxy Dirichlet of the ensemble itself; the measures of the authors' code"
translate proxy "$ENSEMBLE" --task study_translation --formulation proxy
for seed in $(seq "$SEEDS"); do
  translate "authors-seed$seed" "$WORK/pd_send2_authors-seed$seed/checkpoint_best.pt" \
    --task study_translation --formulation authors
done
finish

say "9. the ensemble's outputs, scored by every system"
for set in "${SETS[@]}"; do
  if [ "$set" = test ]; then continue; fi # stage 6 made it
  job "ensemble_$set" 'pairs|error' "$WORK/bin:$ENSEMBLE" \
    $BIN/fairseq-pdd transfer-set "$WORK/bin" --subset "$(subset "$set")" --path "$ENSEMBLE" \
      --beam 5 --destdir "$WORK/ensemble_$set" --workers $JOBS -- "${LENGTH[@]}" $DEVICE
done
score() { # SYSTEM CHECKPOINTS OPTIONS…
  local out=$WORK/same_outputs/$1 set runs=() inputs=$2
  for set in "${SETS[@]}"; do
    name=nll_$set
    if [ "$set" = test ]; then name=nll; fi
    runs+=(-- "$WORK/ensemble_$set" --gen-subset train --uncertainty-path "$out/$name.jsonl")
    inputs+=:$WORK/ensemble_$set
  done
  background "same_outputs/$1" Translated "$inputs" \
    $BIN/python examples/lib/generate_each.py $PLUGIN --task distill_translation --path "$2" \
      $DEVICE --quiet --score-reference --max-tokens 12000 --required-batch-size-multiple 1 \
      "${@:3}" "${runs[@]}"
}
score ensemble "$ENSEMBLE"
score proxy "$ENSEMBLE" --task study_translation --formulation proxy
for seed in $(seq "$SEEDS"); do
  for criterion in $STUDENTS; do
    score "$criterion-seed$seed" "$WORK/$criterion-seed$seed/checkpoint_best.pt"
  done
  score "authors-seed$seed" "$WORK/pd_send2_authors-seed$seed/checkpoint_best.pt" \
    --task study_translation --formulation authors
done
finish

say "10. tables and figures"
$BIN/python $STUDY/study_tables.py "$WORK" --out "${OUT:-$WORK}"
