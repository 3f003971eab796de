# Shell functions that the examples share. Set WORK (a folder) and JOBS (the number of commands at a
# time) before sourcing them. Finished jobs are skipped, so an interrupted run continues where it
# stopped. A job whose command or inputs have changed since is refused or, with REMAKE=1, done
# again; its earlier result is then moved to $WORK/replaced. All logs are in $WORK/logs. With DRY_RUN
# set, commands are printed and not run.

mkdir -p "$WORK/logs" "$WORK/done" "$WORK/made_of"
say() { printf '\n== %s  (%s)\n' "$*" "$(date +%H:%M:%S)"; }

# job OUTPUT SHOW INPUTS COMMAND…: make $WORK/OUTPUT by COMMAND from INPUTS (files and folders,
# joined with ':') unless it is made; print the lines of its log that match SHOW
job() {
  local output=$1 show=$2 inputs=$3 name=${1//\//-} log record made_of; shift 3
  if [ -n "${DRY_RUN:-}" ]; then print_command "$output" "$@"; return; fi
  log=$WORK/logs/$name.log record=$WORK/made_of/$name
  made_of=$(identify "$inputs" "$@") || return 1
  check "$output" "$record" "$made_of" || return 1
  if [ -e "$WORK/done/$name" ] && [ -e "$WORK/$output" ]; then return; fi
  rm -f "$WORK/done/$name"
  if ! "$@" 2>&1 | stdbuf -oL tr '\r' '\n' | tee "$log" \
      | { grep --line-buffered -E "$show" || true; } \
      | sed -u -E "s/.*\| (INFO \| )?[a-z_.]+ \| //; s|^|[$output] |"; then
    grep -E 'error|Error' "$log" | tail -n 3 >&2 || true
    echo "error: '$output' failed; all of its output is in $log" >&2
    return 1
  fi
  touch "$WORK/done/$name"
}

# always NAME COMMAND…: run a quick command, each time
always() {
  if [ -n "${DRY_RUN:-}" ]; then print_command "$@"; else "${@:2}"; fi
}
print_command() { printf '[%s]' "$1"; printf ' %q' "${@:2}"; echo; }

# identify INPUTS COMMAND…: print the command, without options of the machine, and the sha256 of each
# input file
identify() {
  local inputs path text
  IFS=: read -ra inputs <<< "$1"
  for path in ${inputs[@]+"${inputs[@]}"}; do
    [ -e "$path" ] || { echo "error: $path is missing" >&2; return 1; }
  done
  text=$(sed -E ':a; s/ --(cpu|fp16-no-flatten-grads|(num-)?workers [0-9]+)( |$)/\3/; ta' <<< "${2##*/} ${*:3}")
  if [ -n "$1" ]; then
    text+=$'\n'$(find -L "${inputs[@]}" -type f -print0 | sort -z | xargs -0 -r sha256sum)
  fi
  printf '%s\n' "${text//"$WORK"/WORK}" # the folder may be moved
}

# check OUTPUT RECORD MADE_OF: record what an output is made of; refuse one that was made of other
# things, which a command would skip or continue
check() {
  local output=$1 record=$2 changed to
  if [ -e "$record" ] && [ "$(< "$record")" != "$3" ] && [ -e "$WORK/$output" ]; then
    changed=$(diff "$record" - <<< "$3" | sed -nE 's/^[<>] [0-9a-f]{64}  //p' | head -n 1) || true
    if [ -z "${REMAKE:-}" ]; then
      echo "error: $WORK/$output was made before ${changed:-its command} changed: set another" \
        "WORK, or REMAKE=1 to make it again (the earlier one is moved to $WORK/replaced)" >&2
      return 1
    fi
    to=$WORK/replaced/${record##*/}.$(date +%Y%m%d-%H%M%S)
    mkdir -p "$WORK/replaced"
    mv "$WORK/$output" "$to"
    echo "[$output] is made again; the earlier one is now $to"
  fi
  printf '%s\n' "$3" > "$record"
}

# background JOB…: like job, up to $JOBS at a time; `finish` waits for all
PIDS=()
background() {
  while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do sleep 0.2; done
  job "$@" & PIDS+=($!)
}
finish() {
  local failed=0 pid
  for pid in ${PIDS[@]+"${PIDS[@]}"}; do wait "$pid" || failed=1; done
  PIDS=()
  [ "$failed" = 0 ] || exit 1
}
trap 'kill $(jobs -rp) 2> /dev/null || true' EXIT
