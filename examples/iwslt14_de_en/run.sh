#!/usr/bin/env bash
# Distil an ensemble on IWSLT'14 German-English, the corpus on which methods of translation are often
# compared, with one GPU. The stages are those of examples/wmt17_en_de/run.sh, which explains all
# settings; these are other values for them.
#
#   TEXT=DIR             output of fairseq's prepare-iwslt14.sh: DIR/{train,valid,test}.{de,en} and
#                        DIR/code (or DATA=DIR CODES=FILE, as for WMT)
#   OOD="NAME=FILE …"    plain text of out-of-domain sets
#   WORK, GPUS, STAGES, SEED, SCALE=miniature, DRY_RUN, REMAKE: as for WMT
set -euo pipefail

export HERE=examples/iwslt14_de_en
export SRC=${SRC:-de} TGT=${TGT:-en}
# dashes are not split, text is in lower case, and each language has its own dictionary
export TOKENISER=${TOKENISER---lower-case} DICTIONARY=${DICTIONARY-}

# fairseq's page gives no number of updates
export MODEL=${MODEL:-"--arch transformer_iwslt_de_en --share-decoder-input-output-embed
  --dropout 0.3 --weight-decay 0.0001"}
export PRECISION=${PRECISION-} MEMBERS=${MEMBERS:-5} UPDATES=${UPDATES:-50000}
export BATCHES=${BATCHES:-1} TOKENS=${TOKENS:-4096}
export STUDENT_UPDATES=${STUDENT_UPDATES:-20000}
export STUDENT_BATCHES=${STUDENT_BATCHES:-1} STUDENT_TOKENS=${STUDENT_TOKENS:-4096}

exec bash "$(dirname "$0")/../wmt17_en_de/run.sh"
