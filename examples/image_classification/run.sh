#!/usr/bin/env bash
# Run image classification from data to tables. Finished commands are skipped and trainings resume,
# so an interrupted run continues where it stopped. The logs of all commands are in $WORK/logs.
#
#   SCALE=default|smoke   smoke, for the test suite, only checks that everything runs
#   WORK=DIR              folder for all output (default: examples/image_classification/runs/$SCALE)
#   DATA=DIR              Fashion-MNIST, DIR/FashionMNIST/raw; fetched with apt if it is missing
set -euo pipefail
cd "$(dirname "$0")/../.."

SCALE=${SCALE:-default}
case $SCALE in
  default) CONFIG=fashion MEMBERS='1 2 3 4 5' SEEDS='11 12 13' CLASSES='3000 1000 100 10' SWEEP= ;;
  smoke) CONFIG=smoke MEMBERS='1 2' SEEDS='11' CLASSES='10' SWEEP=--quick ;;
  *) echo "error: SCALE must be default or smoke, not '$SCALE'" >&2; exit 2 ;;
esac
HERE=examples/image_classification
WORK=${WORK:-$HERE/runs/$SCALE}
DATA=${DATA:-$HERE/runs/fashion-mnist}
BIN=${BIN:-.venv/bin}
PYTHON=$BIN/python

# Two trainings of small networks at a time use two cores better than one training on both.
CORES=$(nproc)
JOBS=$((CORES > 1 ? 2 : 1))
export OMP_NUM_THREADS=$((CORES / JOBS))
# Compiling the loss takes longer than it saves on networks of this size.
export FAIRSEQ_PDD_COMPILE=0

mkdir -p "$WORK/logs"
say() { printf '\n== %s  (%s)\n' "$*" "$(date +%H:%M:%S)"; }

# background NAME OUTPUT COMMAND…: start unless OUTPUT exists, up to $JOBS at a time; `finish` waits
PIDS=()
background() {
  local name=$1 log=$WORK/logs/$1.log output=$2; shift 2
  [ -e "$output" ] && return
  while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do sleep 0.2; done
  {
    "$@" 2>&1 | tee "$log" | { grep --line-buffered -E '^(epoch|K = |wrote)' || true; } \
      | sed -u "s|^|[$name] |"
  } || {
    grep -E 'error|Error' "$log" | tail -n 1
    echo "error: '$name' failed; all of its output is in $log"
    false
  } >&2 &
  PIDS+=($!)
}
finish() {
  local failed=0 pid
  for pid in ${PIDS[@]+"${PIDS[@]}"}; do wait "$pid" || failed=1; done
  PIDS=()
  [ "$failed" = 0 ] || exit 1
}
trap 'kill $(jobs -rp) 2> /dev/null || true' EXIT

say "1. data"
if [ ! -e "$DATA/fetched" ]; then
  $PYTHON $HERE/fetch_fashion.py "$DATA" 2> "$WORK/logs/fetch.log" \
    || { tail -n 1 "$WORK/logs/fetch.log" >&2; exit 1; }
fi

say "2. ensemble, on images; and the sweep over the number of classes, on glyphs"
for seed in $MEMBERS; do
  background "member$seed" "$WORK/members/$seed/single.pt" \
    $PYTHON $HERE/train_classifier.py "$DATA" --config $CONFIG \
    --seed "$seed" --out "$WORK/members/$seed"
done
for classes in $CLASSES; do
  background "glyphs$classes" "$WORK/glyphs/$classes.json" \
    $PYTHON $HERE/class_sweep.py "$classes" $SWEEP \
    --out "$WORK/glyphs/$classes.json"
done
finish

say "3. students: EnD, PD-EnD² and EnD² by likelihood"
for seed in $SEEDS; do
  background "students$seed" "$WORK/students/$seed/end2.pt" \
    $PYTHON $HERE/train_classifier.py "$DATA" --config $CONFIG \
    --criteria end pd_end2 end2 --teacher "$WORK"/members/*/single.pt \
    --seed "$seed" --out "$WORK/students/$seed"
done
finish

say "4. evaluation"
background evaluate "$WORK/results.json" $PYTHON $HERE/evaluate_classifiers.py "$DATA" "$WORK" --config $CONFIG
finish

say "5. results"
$PYTHON $HERE/report_classifiers.py "$WORK" 2> "$WORK/logs/report.log" \
  || { tail -n 1 "$WORK/logs/report.log" >&2; exit 1; }
