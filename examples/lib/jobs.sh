# Shell functions that the examples share. Set WORK (a folder) and JOBS (the number of commands at a
# time) before sourcing them. Finished jobs are skipped, so an interrupted run continues where it
# stopped. The logs of all commands are in $WORK/logs.

mkdir -p "$WORK/logs" "$WORK/done"
say() { printf '\n== %s  (%s)\n' "$*" "$(date +%H:%M:%S)"; }

# job NAME SHOW COMMAND…: run unless finished before; print the lines of its log that match SHOW
job() {
  local name=$1 show=$2 log=$WORK/logs/$1.log; shift 2
  [ -e "$WORK/done/$name" ] && return
  if ! "$@" 2>&1 | tee "$log" | { grep --line-buffered -E "$show" || true; } \
      | sed -u -E "s/.*\| (INFO \| )?[a-z_.]+ \| //; s/^/[$name] /"; then
    grep -E 'error|Error' "$log" | tail -n 3 >&2 || true
    echo "error: '$name' failed; all of its output is in $log" >&2
    return 1
  fi
  touch "$WORK/done/$name"
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
