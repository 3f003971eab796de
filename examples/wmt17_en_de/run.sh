#!/usr/bin/env bash
# Make the paper's Table 4 with fairseq's own recipe of translation, on a node with GPUs. Finished
# stages are skipped, so an interrupted run continues where it stopped. Logs are in $WORK/logs.
#
#   TEXT=DIR             output of fairseq's prepare-wmt14en2de.sh: DIR/{train,valid,test}.{en,de},
#                        tokenised and with BPE, and DIR/code, the BPE codes
#   DATA=DIR CODES=FILE  or: a folder of fairseq-preprocess with a joined dictionary, and the codes
#   OOD="NAME=FILE …"    plain text of out-of-domain sets, such as french=news.fr; the suffix is the
#                        language for the tokeniser. The set of permuted test sources is always made
#   WORK=DIR             folder for all output
#   GPUS=N               number of GPUs to use (default: all); batches have the same size for any
#   STAGES="NAME …"      stages to run: data members transfer cache students translate table
#   SEED=N               only this member and the students of this seed, for array jobs
#   SCALE=miniature      check all stages on synthetic text, in minutes and without a GPU
#   DRY_RUN=1            print the commands instead of running them
#   REMAKE=1             make stages again whose inputs or options have changed since; without it,
#                        they are refused
# More settings are below; examples/iwslt14_de_en has others for the same script.
set -euo pipefail
cd "$(dirname "$0")/../.."

HERE=${HERE:-examples/wmt17_en_de}
WORK=${WORK:-$HERE/runs} BIN=${BIN:-.venv/bin} SCALE=${SCALE:-full}
SRC=${SRC:-en} TGT=${TGT:-de} TEXT=${TEXT:-} DATA=${DATA:-} OOD=${OOD:-} SEED=${SEED:-}
STAGES=${STAGES:-data members transfer cache students translate table}
# the tokeniser of the preparation, and options of fairseq-preprocess
TOKENISER=${TOKENISER---split-dashes} DICTIONARY=${DICTIONARY---joined-dictionary}

# options of fairseq-train that belong to the model: those of Ott et al. (2018)
MODEL=${MODEL:---arch transformer_wmt_en_de_big --share-all-embeddings --dropout 0.3
  --weight-decay 0.0 --warmup-init-lr 1e-07}
STUDENT_MODEL=${STUDENT_MODEL:-$MODEL}
WARMUP=${WARMUP:-4000} PRECISION=${PRECISION---fp16}
# members: updates of BATCHES x TOKENS tokens; the mean of the last AVERAGE epochs is used
MEMBERS=${MEMBERS:-10} EVALUATED=${EVALUATED:-$MEMBERS}
UPDATES=${UPDATES:-193000} BATCHES=${BATCHES:-8} TOKENS=${TOKENS:-4096} AVERAGE=${AVERAGE:-10}
# students: from the ensemble online and from its cache; the mean of the last STUDENT_AVERAGE
# checkpoints, which are STUDENT_INTERVAL updates apart, is used
STUDENTS=${STUDENTS:-send pd_send2} TEACHERS=${TEACHERS:-online cached}
STUDENT_SEEDS=${STUDENT_SEEDS:-5} STUDENT_UPDATES=${STUDENT_UPDATES:-20000}
STUDENT_BATCHES=${STUDENT_BATCHES:-32} STUDENT_TOKENS=${STUDENT_TOKENS:-1024}
STUDENT_AVERAGE=${STUDENT_AVERAGE:-5} STUDENT_INTERVAL=${STUDENT_INTERVAL:-1000}
# tokens per batch of translations, and their greatest length
SEARCH_TOKENS=${SEARCH_TOKENS:-4000} MAX_LENGTH=${MAX_LENGTH:-200}

DEVICE=
if ! command -v nvidia-smi > /dev/null; then
  DEVICE=--cpu GPUS=1
fi
GPUS=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}

case $SCALE in
  full) ;;
  miniature)
    small="layers 1 embed-dim 16 ffn-embed-dim 32 attention-heads 2"
    for side in encoder decoder; do
      sizes=$(sed -E "s/([a-z-]+) ([0-9]+)/--$side-\1 \2/g" <<< "$small")
      MODEL+=" $sizes" STUDENT_MODEL+=" $sizes"
    done
    WARMUP=2 MEMBERS=2 EVALUATED=1 UPDATES=4 BATCHES=2 TOKENS=400 AVERAGE=2
    STUDENT_SEEDS=1 STUDENT_UPDATES=3 STUDENT_BATCHES=2 STUDENT_TOKENS=200
    STUDENT_AVERAGE=2 STUDENT_INTERVAL=1 MAX_LENGTH=12 ;;
  *) echo "error: SCALE must be full or miniature, not '$SCALE'" >&2; exit 2 ;;
esac

PLUGIN="--user-dir fairseq_pdd"
PAIR="--source-lang $SRC --target-lang $TGT"
JOBS=1
. examples/lib/jobs.sh # say, job, always

# stage NAME TITLE: begin a stage; fails if STAGES does not have it
stage() {
  [[ " $STAGES " == *" $1 "* ]] || return 1
  say "$2"
}
for name in $STAGES; do
  if [[ " data members transfer cache students translate table " != *" $name "* ]]; then
    echo "error: STAGES has no stage '$name'; the stages are listed in $HERE/run.sh" >&2; exit 2
  fi
done
# seeds NUMBER: print the seeds from 1 to NUMBER, or $SEED if it is one of them
seeds() {
  local last=$1
  if [ "${SEED:-$1}" -lt "$1" ]; then last=$SEED; fi
  seq "${SEED:-1}" "$last"
}
# accumulate BATCHES: print options for updates of this number of batches
accumulate() { echo "--distributed-world-size $GPUS --update-freq $((($1 + GPUS - 1) / GPUS))"; }

# --------------------------------------------------------------------------------------------- data

if [ "$SCALE" = miniature ] && [ -z "$TEXT$DATA" ]; then
  TEXT=$WORK/text
  OOD="speech=$TEXT/plain/speech.$SRC target=$TEXT/plain/target.$TGT french=$TEXT/plain/french.fr"
  MAKE_TEXT=1
fi
if [ -z "$DATA" ]; then
  : "${TEXT:?set TEXT to what the preparation of fairseq writes, or DATA to a binarised folder}"
  CODES=${CODES:-$TEXT/code}
fi
: "${CODES:?set CODES to the BPE codes of DATA}"
SETS=(test ood_permuted)
for name in $(printf '%s\n' $OOD | cut -d= -f1); do SETS+=("ood_$name"); done

if stage data "1. data: binarised text, out-of-domain sets"; then
  if [ -n "${MAKE_TEXT:-}" ]; then
    job text 'error' '' $BIN/python examples/lib/miniature_text.py "$TEXT" --pair $SRC $TGT $TOKENISER
  fi
  if [ -z "$DATA" ]; then
    job bin 'sents' "$(printf "$TEXT/%s:" {train,valid,test}.{$SRC,$TGT})" \
      $BIN/fairseq-preprocess $PAIR --trainpref "$TEXT/train" --validpref "$TEXT/valid" \
      --testpref "$TEXT/test" --destdir "$WORK/bin" $DICTIONARY --workers "$(nproc)"
  fi
  job ood 'sentences' "$CODES:${DATA:-$WORK/bin}$(printf ':%s' $OOD | sed -E 's/:[^:=]+=/:/g')" \
    $BIN/python examples/lib/ood_sets.py "${DATA:-$WORK/bin}" "$WORK/ood" $OOD \
    --pair $SRC $TGT --codes "$CODES" $TOKENISER
fi
DATA=${DATA:-$WORK/bin}

# ------------------------------------------------------------------------------- members, ensemble

# the options of fairseq's page, except --task, --criterion and those of the model. The plugin is
# needed for resuming members only: since torch 2.6, fairseq cannot load its own checkpoints unless
# argparse.Namespace is allowed in them. Without a GPU, fairseq's optimizer for float16 works with
# separate gradients only
TRAIN=($PAIR $PLUGIN $DEVICE ${DEVICE:+--fp16-no-flatten-grads} $PRECISION
  --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 --lr 0.0005 --lr-scheduler inverse_sqrt --warmup-updates $WARMUP --no-progress-bar)

# average MODEL OPTION NUMBER: make the mean of a model's last checkpoints, $WORK/averages/MODEL.pt
average() {
  job "averages/$1.pt" 'averaged' "$WORK/$1/checkpoint_last.pt" $BIN/fairseq-pdd \
    average-checkpoints --inputs "$WORK/$1" "$2" "$3" --output "$WORK/averages/$1.pt"
}
mkdir -p "$WORK/averages"

if stage members "2. ensemble: $MEMBERS models that differ in their seed"; then
  for seed in $(seeds $MEMBERS); do
    job "member$seed" 'valid on' "$DATA" $BIN/fairseq-train "$DATA" "${TRAIN[@]}" $MODEL \
      --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
      --max-tokens $TOKENS $(accumulate $BATCHES) --max-update $UPDATES \
      --keep-last-epochs $AVERAGE --seed "$seed" --save-dir "$WORK/member$seed"
    average "member$seed" --num-epoch-checkpoints $AVERAGE
  done
fi
checkpoints=$(printf "$WORK/averages/member%s.pt:" $(seq $MEMBERS))
ENSEMBLE=${checkpoints%:}

# ------------------------------------------------------------- transfer set, cache, test translated

SEARCH="--max-len-b $MAX_LENGTH $PRECISION $DEVICE"
if stage transfer "3. transfer set: the training source as the ensemble translates it"; then
  for set in train test; do # the translated test set is that of the column 'NLL Ens-Pred'
    job "transfer_$set" 'translating|pairs' "$DATA:$ENSEMBLE" $BIN/fairseq-pdd transfer-set "$DATA" \
      --subset $set --path "$ENSEMBLE" --destdir "$WORK/transfer_$set" --targets ensemble --beam 5 \
      --max-tokens $SEARCH_TOKENS --workers $GPUS -- $SEARCH
  done
fi
TRANSFER=$WORK/transfer_train
if [[ " $TEACHERS " == *" cached "* ]] \
    && stage cache "4. cache: the ensemble's statistics of the transfer set"; then
  job cache 'tokens|cached' "$TRANSFER:$ENSEMBLE" $BIN/fairseq-pdd teacher-cache "$TRANSFER" \
    --path "$ENSEMBLE" --destdir "$WORK/cache" --max-tokens $SEARCH_TOKENS --workers $GPUS $DEVICE
fi

# ------------------------------------------------------------------------------------------ students

# student CRITERION TEACHER: print the name of a student
student() { if [ "$2" = cached ]; then echo "$1_cached"; else echo "$1"; fi; }

if stage students "5. students: $STUDENTS; teachers: $TEACHERS"; then
  for seed in $(seeds $STUDENT_SEEDS); do for criterion in $STUDENTS; do for teacher in $TEACHERS; do
    case $teacher in
      online) targets=(--teacher-paths "$ENSEMBLE") inputs=$ENSEMBLE ;;
      cached) targets=(--teacher-cache "$WORK/cache") inputs=$WORK/cache/cache.json ;;
      *) echo "error: TEACHERS are online and cached, not '$teacher'" >&2; exit 2 ;;
    esac
    name=$(student $criterion $teacher)-seed$seed
    job "$name" 'valid on|teacher:' "$TRANSFER:$inputs" $BIN/fairseq-train "$TRANSFER" \
      "${TRAIN[@]}" $STUDENT_MODEL --task distill_translation --criterion $criterion \
      "${targets[@]}" --max-tokens $STUDENT_TOKENS $(accumulate $STUDENT_BATCHES) \
      --max-update $STUDENT_UPDATES --no-epoch-checkpoints \
      --save-interval-updates $STUDENT_INTERVAL --keep-interval-updates $STUDENT_AVERAGE \
      --seed "$seed" --save-dir "$WORK/$name"
    average "$name" --num-update-checkpoints $STUDENT_AVERAGE
  done; done; done
fi

# --------------------------------------------------------------------------------- records and table

translate() { # SYSTEM CHECKPOINTS
  local out=$WORK/records/$1 set data runs=()
  for set in "${SETS[@]}"; do
    data=$WORK/ood
    if [ "$set" = test ]; then data=$DATA; fi
    runs+=(-- "$data" --gen-subset "$set" --uncertainty-path "$out/$set.jsonl")
  done
  runs+=(-- "$DATA" --gen-subset test --score-reference --uncertainty-path "$out/nll.jsonl")
  runs+=(-- "$WORK/transfer_test" --gen-subset train --score-reference
    --uncertainty-path "$out/nll_ensemble.jsonl")
  # in float32, also where training and transfer set are in float16
  job "records/$1" 'Translated' "$DATA:$WORK/ood:$WORK/transfer_test:$2" \
    $BIN/python examples/lib/generate_each.py $PAIR $PLUGIN $DEVICE --task distill_translation \
    --path "$2" --beam 5 --max-len-b $MAX_LENGTH --remove-bpe --tokenizer moses --quiet \
    --max-tokens $SEARCH_TOKENS --required-batch-size-multiple 1 "${runs[@]}"
}
if stage translate "6. translation with uncertainty"; then
  for seed in $(seeds $EVALUATED); do
    translate "single-seed$seed" "$WORK/averages/member$seed.pt"
  done
  if [ "${SEED:-1}" = 1 ]; then translate ensemble "$ENSEMBLE"; fi
  for seed in $(seeds $STUDENT_SEEDS); do
    for criterion in $STUDENTS; do for teacher in $TEACHERS; do
      name=$(student $criterion $teacher)-seed$seed
      translate "$name" "$WORK/averages/$name.pt"
    done; done
  done
fi

if stage table "7. results"; then
  declare -A NAMES=([send]=SEnD [pd_send2]=PD-SEnD²)
  rows=(--system "Single=single-seed*" --system Ensemble=ensemble)
  for criterion in $STUDENTS; do for teacher in $TEACHERS; do
    label=${NAMES[$criterion]:-$criterion}
    if [ $teacher = cached ]; then label+=", cached"; fi
    rows+=(--system "$label=$(student $criterion $teacher)-seed*")
  done; done
  always table $BIN/fairseq-pdd assess table "$WORK/records" "${rows[@]}" \
    --markdown "$WORK/table.md" --latex "$WORK/table.tex" --json "$WORK/table.json"
  # the outputs of seed 1
  always report $BIN/fairseq-pdd report "$WORK/records" "${rows[@]//seed\*/seed1}" \
    --out "$WORK/report.html"
fi
