#!/usr/bin/env bash
# The claim about many classes, on sequences: students of one ensemble by the Dirichlet likelihood
# (SEnD²), by forward KL and by reverse KL to the proxy, from random weights, with vocabularies of
# different sizes. The stages are those of examples/quickstart/run.sh, up to the students; finished
# ones are skipped.
#
#   VOCABULARIES="N …"   numbers of subwords
#   WORK=DIR             folder for all output (default: examples/study/runs/vocabularies)
#   SCALE, MEMBERS, STUDENT_EPOCHS, OWN, SRC, TGT, REMAKE: as for the quickstart
set -euo pipefail

VOCABULARIES=${VOCABULARIES:-1000 4000 16000 32000}
ROOT=${WORK:-examples/study/runs/vocabularies}
STUDY=$(dirname "$0")

for VOCABULARY in $VOCABULARIES; do
  ( # a process for each, since the script changes the folder and sets variables
    WORK=$ROOT/$VOCABULARY MEMBERS=${MEMBERS:-3} STUDENT_EPOCHS=${STUDENT_EPOCHS:-6}
    STUDENTS="pd_send2 pd_send2_forward send2" CACHED="pd_send2 pd_send2_forward"
    TARGETS=reference START=random UNTIL=students
    . "$STUDY/../quickstart/run.sh"
  )
done
cd "$STUDY/../.."
"${BIN:-.venv/bin}/python" examples/study/vocabularies.py "$ROOT" $VOCABULARIES
