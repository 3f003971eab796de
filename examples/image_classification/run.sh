#!/usr/bin/env bash
# Run image classification from data to tables. Finished commands are skipped and trainings resume,
# so an interrupted run continues where it stopped. The logs of all commands are in $WORK/logs.
#
#   SCALE=default|smoke   smoke, for the test suite, only checks that everything runs
#   WORK=DIR              folder for all output (default: examples/image_classification/runs/$SCALE)
#   DATA=DIR              Fashion-MNIST, DIR/FashionMNIST/raw; fetched with apt if it is missing
#   REMAKE=1              make stages again whose inputs or options have changed since; without it,
#                         they are refused
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

. examples/lib/jobs.sh # say, job, background, finish

say "1. data"
if [ ! -e "$DATA/fetched" ]; then
  $PYTHON $HERE/fetch_fashion.py "$DATA" 2> "$WORK/logs/fetch.log" \
    || { tail -n 1 "$WORK/logs/fetch.log" >&2; exit 1; }
fi
IMAGES=$DATA/FashionMNIST/raw

say "2. ensemble, on images; and the sweep over the number of classes, on glyphs"
for seed in $MEMBERS; do
  background "members/$seed" '^epoch' "$IMAGES" \
    $PYTHON $HERE/train_classifier.py "$DATA" --config $CONFIG \
    --seed "$seed" --out "$WORK/members/$seed"
done
for classes in $CLASSES; do
  background "glyphs/$classes.json" '^K = ' '' \
    $PYTHON $HERE/class_sweep.py "$classes" $SWEEP --out "$WORK/glyphs/$classes.json"
done
finish

say "3. students: EnD, PD-EnD² and EnD² by likelihood"
for seed in $SEEDS; do
  background "students/$seed" '^epoch' "$IMAGES:$WORK/members" \
    $PYTHON $HERE/train_classifier.py "$DATA" --config $CONFIG \
    --criteria end pd_end2 end2 --teacher "$WORK"/members/*/single.pt \
    --seed "$seed" --out "$WORK/students/$seed"
done
finish

say "4. evaluation"
job results.json '^wrote' "$IMAGES:$WORK/members:$WORK/students" \
  $PYTHON $HERE/evaluate_classifiers.py "$DATA" "$WORK" --config $CONFIG

say "5. results"
$PYTHON $HERE/report_classifiers.py "$WORK" 2> "$WORK/logs/report.log" \
  || { tail -n 1 "$WORK/logs/report.log" >&2; exit 1; }
