#!/usr/bin/env bash
# Compare the measures of Dir(exp z) and Dir(exp z + offset) for a Prior Network.
#
#   bash benchmarks/which_dirichlet.sh WORK OUT
#
# WORK is the folder of a finished quickstart (examples/quickstart/runs/default). The script translates
# its sets with the measures of both and prints the table of docs/which_dirichlet.md.
set -euo pipefail
cd "$(dirname "$0")/.."

WORK=$1 OUT=$2
BIN=${BIN:-.venv/bin}
sets=(test $(cd "$WORK/records/ensemble" && printf '%s\n' ood_*.jsonl | sed 's/.jsonl$//'))
for dirichlet in unshifted shifted; do
  for i in "${!sets[@]}"; do
    file=$OUT/records/$dirichlet/${sets[$i]}.jsonl
    [ -e "$file" ] && continue
    # fairseq-preprocess named the sets test, test1, test2, …
    $BIN/fairseq-generate "$WORK/bin" --user-dir fairseq_pdd --task distill_translation --cpu --quiet \
      --path "$WORK/pd_send2-seed1/checkpoint_best.pt" --gen-subset test$([ "$i" = 0 ] || echo "$i") \
      --measures-dirichlet $dirichlet --beam 5 --max-len-a 1.5 --max-len-b 10 \
      --post-process sentencepiece --max-tokens 12000 --required-batch-size-multiple 1 \
      --uncertainty-path "$file"
  done
done

$BIN/fairseq-pdd assess table "$OUT/records" --measure total --measure mutual_information \
  --measure epkl --measure rmi --markdown "$OUT/table.md"
$BIN/python - "$OUT/records" <<'END'
import json, sys
import numpy as np
for dirichlet in ("unshifted", "shifted"):
    lines = open(f"{sys.argv[1]}/{dirichlet}/test.jsonl", encoding="utf-8")
    best = [r["sequence"] for r in map(json.loads, lines) if r["rank"] == 0]
    names = ("total", "mutual_information", "epkl", "rmi")
    total, information, epkl, rmi = (np.array([s[name] for s in best]) for name in names)
    print(
        f"{dirichlet}, test set: mean total {total.mean():.2f}, mutual information "
        f"{information.mean():.3f}, EPKL {epkl.mean():.3f}, RMI {rmi.mean():.3f}; correlation of RMI "
        f"with mutual information {np.corrcoef(rmi, information)[0, 1]:.4f}, "
        f"with total {np.corrcoef(rmi, total)[0, 1]:.3f}"
    )
END
