#!/usr/bin/env bash
# A rolling update of a live cluster that loses nothing and refuses to make things worse.
#
# It runs on a control host, reaches each Docker host over SSH, and updates one node at a time:
# followers first, the leader last. `--help` lists what it is told by; scripts/DESIGN.md says why it
# is as it is. Read it from the end: `main` is the order of a roll, `roll_node` that of one node.
#
# Two laws:
#   - Until `docker stop`, whatever is wrong is a refusal (exit 3) and nothing has changed. From
#     there on it is a failure (exit 1): the node gets its previous container back.
#   - The previous container is kept under another name until the new one has proved itself. It is
#     the rollback: the same image, flags and data, with nothing to be put together again.
#
# For bash 3.2 (macOS), so: no associative arrays, no mapfile, no ${x,,}, no ${x@Q}. There is no
# `set -e`: steps run inside conditions, where it would not count; each failure is looked at.
set -uf -o pipefail
# From bash 5.2 on `&` and `\` mean something in the replacement of ${x//a/b}.
shopt -u patsub_replacement 2>/dev/null
IFS=$' \t\n'

readonly EXIT_DONE=0 EXIT_FAILED=1 EXIT_REFUSED=3 EXIT_LOCKED=4 EXIT_USAGE=64

# A stop of kvnode takes 25 s at most (STOP_SECONDS_MAX); a shorter grace would kill it.
readonly STOP_SECONDS_MIN=26
# Log lines of a new container that failed, shown before it is removed.
readonly LOG_LINES=40

usage() {
  cat <<'TEXT'
Usage: rolling-update.sh [--dry-run] [--canary ID] [--report FILE]
       rolling-update.sh --unlock | --help

Updates the nodes of a kvnode cluster one by one: checks, drain, docker stop, replace, start, proof.
A node that fails gets its previous container back, and the roll stops.

  --dry-run      print the plan and the exact docker run lines; touches and asks nobody
  --canary ID    update this node first and watch it for CANARY_SECONDS before the others follow
  --report FILE  write what was done to FILE as JSON
  --unlock       remove the locks of a roll that died
  --help         this text

Told by the environment, or by the shell file that ROLLING_UPDATE_ENV_FILE names (the environment
wins). Required:
  NODES                 id=host,… of all members; the hosts are where peers reach each other
  IMAGE                 the image to update to
Where, and in which order:
  SSH_TARGETS           id=[user@]host,… where SSH reaches a node's host otherwise than by NODES
  SSH_USER              user for targets that name none [the one that ssh takes]
  SSH                   the transport, called as: $SSH TARGET 'command' [ssh with options]
  SSH_CONNECT_TIMEOUT_SECONDS [10]   SSH_STRICT_HOST_KEY_CHECKING [yes]
  SSH_ATTEMPTS [3], SSH_RETRY_SECONDS [2]   when a connection fails
  ROLLING_ORDER         ids to update, in this order [all, as in NODES]; who leads goes last
  DOCKER                how docker is called there, such as "sudo docker" [docker]
The container:
  CONTAINER_NAME [kvnode]            DATA_DIR [/var/lib/kvnode], on the host
  PASSWORD_FILE [/etc/kvnode/password], on the host; empty: none
  REDIS_PORT [6379]   PEER_PORT [7379]   ADMIN_PORT [8379]
  CLUSTER               KVNODE_CLUSTER [from NODES and PEER_PORT], CLUSTER_ID [unset]: as the
                        cluster was begun, if NODES has changed since
  NETWORK [host]   RESTART_POLICY [unless-stopped]   PULL always|missing|never [always]
  CONTAINER_MEMORY_LIMIT [2500m]; empty: no limit
  DEFAULT_EXTRA_ENV     [KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB=1800 MALLOC_ARENA_MAX=2]; empty: none
  EXTRA_ENV             KEY=VALUE … separated by white space; wins over DEFAULT_EXTRA_ENV by key
  EXTRA_RUN_ARGS        more words for docker run
How long, and how strict:
  STOP_TIMEOUT_SECONDS [30]     DRAIN_TIMEOUT_SECONDS [30]    HEALTH_TIMEOUT_SECONDS [300]
  SETTLE_TIMEOUT_SECONDS [30]   REMOTE_TIMEOUT_SECONDS [30]   PULL_TIMEOUT_SECONDS [600]
  STABLE_SECONDS [10]   CANARY_SECONDS [60]   ROLLING_DELAY_SECONDS [2]   POLL_SECONDS [1]
  LAG_ENTRIES_MAX [1000]   DISK_FREE_PERCENT_MIN [20]
  ALLOW_DOWNTIME [false]        true: also one or two voters, which cannot do without one
  LOCK_DIR [/tmp], on the hosts

Exit codes: 0 done, 1 failed and rolled back, 3 refused by a check, 4 another roll holds the lock,
64 wrong usage.
TEXT
}

# --- what it is told ------------------------------------------------------------------------------

readonly VARIABLES="NODES IMAGE SSH_TARGETS SSH_USER SSH SSH_CONNECT_TIMEOUT_SECONDS
  SSH_STRICT_HOST_KEY_CHECKING SSH_ATTEMPTS SSH_RETRY_SECONDS ROLLING_ORDER DOCKER CONTAINER_NAME
  DATA_DIR PASSWORD_FILE REDIS_PORT PEER_PORT ADMIN_PORT CLUSTER CLUSTER_ID NETWORK RESTART_POLICY
  PULL CONTAINER_MEMORY_LIMIT DEFAULT_EXTRA_ENV EXTRA_ENV EXTRA_RUN_ARGS STOP_TIMEOUT_SECONDS
  DRAIN_TIMEOUT_SECONDS HEALTH_TIMEOUT_SECONDS SETTLE_TIMEOUT_SECONDS REMOTE_TIMEOUT_SECONDS
  PULL_TIMEOUT_SECONDS STABLE_SECONDS CANARY_SECONDS ROLLING_DELAY_SECONDS POLL_SECONDS
  LAG_ENTRIES_MAX DISK_FREE_PERCENT_MIN ALLOW_DOWNTIME LOCK_DIR"

DRY_RUN=false CANARY='' REPORT='' UNLOCK=false

parse_arguments() {
  while [ $# -gt 0 ]; do
    case $1 in
      (--dry-run) DRY_RUN=true ;;
      (--unlock) UNLOCK=true ;;
      (--canary) [ $# -gt 1 ] || wrong_usage "--canary wants the id of a node"; CANARY=$2; shift ;;
      (--canary=*) CANARY=${1#*=} ;;
      (--report) [ $# -gt 1 ] || wrong_usage "--report wants a file"; REPORT=$2; shift ;;
      (--report=*) REPORT=${1#*=} ;;
      (--help|-h) usage; exit "$EXIT_DONE" ;;
      (*) wrong_usage "unknown argument: $1" ;;
    esac
    shift
  done
}

wrong_usage() {
  printf 'rolling-update.sh: %s (see --help)\n' "$1" >&2
  exit "$EXIT_USAGE"
}

# What the environment has set wins over the file, the empty string too.
read_env_file() {
  local file=${ROLLING_UPDATE_ENV_FILE:-} name kept=''
  [ -n "$file" ] || return 0
  [ -r "$file" ] || wrong_usage "ROLLING_UPDATE_ENV_FILE: cannot read $file"
  bash -n "$file" || wrong_usage "ROLLING_UPDATE_ENV_FILE: $file is not a shell file"
  for name in $VARIABLES; do
    [ -z "${!name+set}" ] || kept="$kept $name=$(quote "${!name}")"
  done
  # shellcheck source=/dev/null
  . "$file" || wrong_usage "ROLLING_UPDATE_ENV_FILE: $file failed"
  eval "$kept"
}

# `${X-default}`: unset means the default, the empty string is an answer. `${X:-…}` elsewhere.
settle_variables() {
  : "${NODES:=}" "${IMAGE:=}" "${SSH_TARGETS:=}" "${SSH_USER:=}" "${ROLLING_ORDER:=}"
  : "${SSH_CONNECT_TIMEOUT_SECONDS:=10}" "${SSH_STRICT_HOST_KEY_CHECKING:=yes}"
  : "${SSH_ATTEMPTS:=3}" "${SSH_RETRY_SECONDS:=2}" "${DOCKER:=docker}"
  SSH=${SSH:-"ssh -o BatchMode=yes -o ConnectTimeout=$SSH_CONNECT_TIMEOUT_SECONDS
    -o StrictHostKeyChecking=$SSH_STRICT_HOST_KEY_CHECKING
    -o ServerAliveInterval=5 -o ServerAliveCountMax=3 --"}
  : "${CONTAINER_NAME:=kvnode}" "${DATA_DIR:=/var/lib/kvnode}"
  PASSWORD_FILE=${PASSWORD_FILE-/etc/kvnode/password}
  : "${REDIS_PORT:=6379}" "${PEER_PORT:=7379}" "${ADMIN_PORT:=8379}"
  : "${CLUSTER:=}" "${CLUSTER_ID:=}" "${NETWORK:=host}" "${RESTART_POLICY:=unless-stopped}"
  : "${PULL:=always}" "${EXTRA_ENV:=}" "${EXTRA_RUN_ARGS:=}"
  CONTAINER_MEMORY_LIMIT=${CONTAINER_MEMORY_LIMIT-2500m}
  DEFAULT_EXTRA_ENV=${DEFAULT_EXTRA_ENV-KVNODE_MEMORY_SHUTDOWN_THRESHOLD_MB=1800 MALLOC_ARENA_MAX=2}
  : "${STOP_TIMEOUT_SECONDS:=30}" "${DRAIN_TIMEOUT_SECONDS:=30}" "${HEALTH_TIMEOUT_SECONDS:=300}"
  : "${SETTLE_TIMEOUT_SECONDS:=30}" "${REMOTE_TIMEOUT_SECONDS:=30}" "${PULL_TIMEOUT_SECONDS:=600}"
  : "${STABLE_SECONDS:=10}" "${CANARY_SECONDS:=60}" "${ROLLING_DELAY_SECONDS:=2}"
  : "${POLL_SECONDS:=1}" "${LAG_ENTRIES_MAX:=1000}" "${DISK_FREE_PERCENT_MIN:=20}"
  : "${ALLOW_DOWNTIME:=false}" "${LOCK_DIR:=/tmp}"
}

check_variables() {
  local name
  [ -n "$NODES" ] || wrong_usage "NODES is not set"
  [ -n "$IMAGE" ] || [ "$UNLOCK" = true ] || wrong_usage "IMAGE is not set"
  case $IMAGE in (-*|*[[:space:]]*) wrong_usage "IMAGE: $IMAGE is no name of an image" ;; esac
  for name in SSH_ATTEMPTS REDIS_PORT PEER_PORT ADMIN_PORT STOP_TIMEOUT_SECONDS \
    DRAIN_TIMEOUT_SECONDS HEALTH_TIMEOUT_SECONDS SETTLE_TIMEOUT_SECONDS REMOTE_TIMEOUT_SECONDS \
    PULL_TIMEOUT_SECONDS STABLE_SECONDS CANARY_SECONDS LAG_ENTRIES_MAX DISK_FREE_PERCENT_MIN; do
    matches "${!name}" '^(0|[1-9][0-9]{0,8})$' \
      || wrong_usage "$name: ${!name} is not a whole number"
  done
  [ "$STOP_TIMEOUT_SECONDS" -ge "$STOP_SECONDS_MIN" ] \
    || wrong_usage "STOP_TIMEOUT_SECONDS: a node may need 25 s to stop; $STOP_SECONDS_MIN or more"
  command -v sha256sum >/dev/null || command -v shasum >/dev/null \
    || wrong_usage "neither sha256sum nor shasum is installed here"
  matches "$CONTAINER_NAME" '^[A-Za-z0-9][A-Za-z0-9_.-]*$' \
    || wrong_usage "CONTAINER_NAME: $CONTAINER_NAME is no name of a container"
  for name in DATA_DIR PASSWORD_FILE LOCK_DIR; do
    case ${!name} in
      (''|/*) case ${!name} in (*[,]*) wrong_usage "$name: no comma, please: ${!name}" ;; esac ;;
      (*) wrong_usage "$name: ${!name} is not an absolute path" ;;
    esac
  done
  case $ALLOW_DOWNTIME in (true|false) ;; (*) wrong_usage "ALLOW_DOWNTIME is true or false" ;; esac
  case $PULL in (always|missing|never) ;; (*) wrong_usage "PULL is always, missing or never" ;; esac
}

matches() { [[ $1 =~ $2 ]]; }

# NODES, SSH_TARGETS and ROLLING_ORDER as arrays: a node is its position in IDS.
IDS=() HOSTS=() TARGETS=() ORDER=()

read_nodes() {
  local entry id host node
  for entry in $(words_of_list "$NODES"); do
    id=${entry%%=*} host=${entry#*=}
    case $entry in (*=?*) ;; (*) wrong_usage "NODES: $entry is not id=host" ;; esac
    matches "$id" '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' || wrong_usage "NODES: $id is no name of a node"
    check_host NODES "$host"
    ! node_called "$id" >/dev/null || wrong_usage "NODES names $id twice"
    IDS+=("$id") HOSTS+=("$host") TARGETS+=("${SSH_USER:+$SSH_USER@}$host")
  done
  [ ${#IDS[@]} -gt 0 ] || wrong_usage "NODES names no node"
  for entry in $(words_of_list "$SSH_TARGETS"); do
    case $entry in (*=?*) ;; (*) wrong_usage "SSH_TARGETS: $entry is not id=host" ;; esac
    node=$(node_called "${entry%%=*}") || wrong_usage "SSH_TARGETS: NODES has no ${entry%%=*}"
    host=${entry#*=}
    check_host SSH_TARGETS "$host"
    case $host in (*@*) TARGETS[node]=$host ;; (*) TARGETS[node]=${SSH_USER:+$SSH_USER@}$host ;; esac
  done
  check_targets_differ
}

words_of_list() { printf '%s' "$1" | tr ',\r\n\t' '    '; }

check_host() {
  # A host that begins with a dash would be an option of ssh.
  matches "$2" '^[A-Za-z0-9[_][][A-Za-z0-9@:%._-]*$' || wrong_usage "$1: $2 is no host"
}

check_targets_differ() {
  local node other
  for ((node = 0; node < ${#IDS[@]}; node++)); do
    for ((other = 0; other < node; other++)); do
      [ "${TARGETS[node]}" != "${TARGETS[other]}" ] \
        || wrong_usage "${IDS[other]} and ${IDS[node]} are both on ${TARGETS[node]}"
    done
  done
}

node_called() {
  local node
  for ((node = 0; node < ${#IDS[@]}; node++)); do
    [ "${IDS[node]}" != "$1" ] || { printf '%s\n' "$node"; return 0; }
  done
  return 1
}

read_order() {
  local id node seen=' ' order=${ROLLING_ORDER:-${IDS[*]}}
  if [ -n "$CANARY" ]; then
    node=$(node_called "$CANARY") || wrong_usage "--canary: NODES has no $CANARY"
    ORDER+=("$node") seen=" $CANARY "
  fi
  for id in $(words_of_list "$order"); do
    node=$(node_called "$id") || wrong_usage "ROLLING_ORDER: NODES has no $id"
    case $seen in
      (*" $id "*) [ "$id" = "$CANARY" ] || wrong_usage "ROLLING_ORDER names $id twice" ;;
      (*) ORDER+=("$node") seen="$seen$id " ;;
    esac
  done
}

# --- the environment of the containers -----------------------------------------------------------

ENV_KEYS=() ENV_VALUES=()
readonly OWN_KEYS=" KVNODE_NODE KVNODE_CLUSTER KVNODE_CLUSTER_ID KVNODE_LISTEN KVNODE_PEER_LISTEN
  KVNODE_ADMIN KVNODE_DATA KVNODE_REQUIREPASS_FILE "

# DEFAULT_EXTRA_ENV first, EXTRA_ENV over it, key by key.
merge_extra_env() {
  add_env DEFAULT_EXTRA_ENV "$DEFAULT_EXTRA_ENV"
  add_env EXTRA_ENV "$EXTRA_ENV"
}

add_env() {
  local entry key at count=0
  for entry in $(printf '%s' "$2" | tr '\r' ' '); do
    count=$((count + 1))
    # It is not shown: it may be a piece of a secret with a space in it.
    case $entry in (*=*) ;; (*) wrong_usage "$1: entry $count is not KEY=VALUE" ;; esac
    key=${entry%%=*}
    matches "$key" '^[A-Za-z_][A-Za-z0-9_]*$' || wrong_usage "$1: entry $count has no name of a variable before its ="
    case $OWN_KEYS in
      (*[[:space:]]"$key"[[:space:]]*) wrong_usage "$1: $key has a variable of its own" ;;
    esac
    at=$(env_called "$key") || at=${#ENV_KEYS[@]}
    ENV_KEYS[at]=$key
    ENV_VALUES[at]=${entry#*=}
  done
}

env_called() {
  local at
  for ((at = 0; at < ${#ENV_KEYS[@]}; at++)); do
    [ "${ENV_KEYS[at]}" != "$1" ] || { printf '%s\n' "$at"; return 0; }
  done
  return 1
}

is_secret() {
  case $(printf '%s' "$1" | tr '[:lower:]' '[:upper:]') in
    (*PASS*|*SECRET*|*TOKEN*|*CREDENTIAL*|*PRIVATE*|*API_KEY*|*AUTH*) return 0 ;;
  esac
  return 1
}

# --- the docker run line --------------------------------------------------------------------------

# The one quoting function: a word that survives sh on the other side as it is.
quote() {
  local one="'" escaped="'\\''"
  case $1 in
    (''|*[!A-Za-z0-9_./:=,@%+-]*) printf "'%s'" "${1//$one/$escaped}" ;;
    (*) printf '%s' "$1" ;;
  esac
}

RUN=()

# Fills RUN with the words of `docker run` for a node, without label and image. With "shown" the
# values of variables that look like secrets are hidden.
run_words() {
  local node=$1 shown=${2:-} at value word
  RUN=(--name "$CONTAINER_NAME" --init --restart "$RESTART_POLICY" --network "$NETWORK")
  if [ -n "$CONTAINER_MEMORY_LIMIT" ]; then
    # As much with swap as without: memory that is swapped out is no memory.
    RUN+=(--memory "$CONTAINER_MEMORY_LIMIT" --memory-swap "$CONTAINER_MEMORY_LIMIT")
  fi
  RUN+=(--stop-timeout "$STOP_TIMEOUT_SECONDS" --read-only --cap-drop ALL)
  RUN+=(--security-opt no-new-privileges --pids-limit 512)
  RUN+=(--mount "type=bind,source=$DATA_DIR,target=/data")
  RUN+=(-e "KVNODE_NODE=${IDS[node]}" -e "KVNODE_CLUSTER=${CLUSTER:-$(cluster_of_nodes)}")
  [ -z "$CLUSTER_ID" ] || RUN+=(-e "KVNODE_CLUSTER_ID=$CLUSTER_ID")
  RUN+=(-e "KVNODE_LISTEN=0.0.0.0:$REDIS_PORT" -e "KVNODE_PEER_LISTEN=0.0.0.0:$PEER_PORT")
  RUN+=(-e "KVNODE_ADMIN=127.0.0.1:$ADMIN_PORT")
  if [ -n "$PASSWORD_FILE" ]; then
    RUN+=(--mount "type=bind,source=$PASSWORD_FILE,target=/run/secrets/password,readonly")
    RUN+=(-e "KVNODE_REQUIREPASS_FILE=/run/secrets/password")
  fi
  for ((at = 0; at < ${#ENV_KEYS[@]}; at++)); do
    value=${ENV_VALUES[at]}
    if [ -n "$shown" ] && is_secret "${ENV_KEYS[at]}"; then value='***'; fi
    RUN+=(-e "${ENV_KEYS[at]}=$value")
  done
  for word in $EXTRA_RUN_ARGS; do RUN+=("$word"); done
}

cluster_of_nodes() {
  local node cluster=''
  for ((node = 0; node < ${#IDS[@]}; node++)); do
    cluster="$cluster${cluster:+,}${IDS[node]}=${HOSTS[node]}:$PEER_PORT"
  done
  printf '%s' "$cluster"
}

# The configuration of a node as one number: what `docker run` is told, but for the image, which
# is compared by its id.
fingerprint_of() {
  run_words "$1"
  printf '%s\0' "${RUN[@]}" | sha256
}

sha256() {
  local sum
  if command -v sha256sum >/dev/null 2>&1; then sum=$(sha256sum)
  else sum=$(shasum -a 256); fi
  printf '%s\n' "${sum%% *}"
}

run_line() {
  local node=$1 line="$DOCKER run -d" print word
  print=$(fingerprint_of "$node") || return 1
  run_words "$node" "${2:-}"
  for word in "${RUN[@]}" --label "kvnode.fingerprint=$print" "$IMAGE"; do
    line="$line $(quote "$word")"
  done
  printf '%s\n' "$line"
}

# Comments and commands, so that it can be read by people and by sh.
print_plan() {
  local node
  printf '# A rolling update of %s to %s\n' "$(ids_of "${ORDER[@]}")" "$IMAGE"
  printf '# cluster %s\n' "${CLUSTER:-$(cluster_of_nodes)}"
  [ -z "$CANARY" ] || printf '# %s is the canary: watched for %s s before the others\n' \
    "$CANARY" "$CANARY_SECONDS"
  printf '# one at a time, whoever leads goes last; pull %s, memory %s, extra environment: %s\n' \
    "$PULL" "${CONTAINER_MEMORY_LIMIT:-without a limit}" "${ENV_KEYS[*]-none}"
  for node in "${ORDER[@]}"; do
    printf '\n# %s on %s\n' "${IDS[node]}" "${TARGETS[node]}"
    run_line "$node" shown
  done
}

ids_of() {
  local node ids=''
  for node in "$@"; do ids="$ids${ids:+ }${IDS[node]}"; done
  printf '%s' "$ids"
}

# --- what it says ---------------------------------------------------------------------------------

# One line per step: when, which node, what.
say() { printf '%s %-8s %s\n' "$(date -u +%H:%M:%SZ)" "$1" "$2"; }

complain() { say "$1" "$2" >&2; }

# Why a check or a step failed; the last one is what the report tells.
WHY=''
because() { WHY=$1; return 1; }

# What a person should do: one indented line each.
advise() {
  local line
  printf 'What to do:\n' >&2
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
}

# --- the report -----------------------------------------------------------------------------------

STARTED_AT='' REPORT_NODES='' NODE_STEPS='' NODE_BEGAN=0 STEP_BEGAN=0

json() { printf '"%s"' "$(printf '%s' "$1" | tr '\000-\037' ' ' | sed 's/["\\]/\\&/g')"; }

begin_report() { STARTED_AT=$(date -u +%Y-%m-%dT%H:%M:%SZ); }

begin_node() { NODE_STEPS='' NODE_BEGAN=$SECONDS STEP_BEGAN=$SECONDS; }

step_done() {
  local node=$1 step=$2 detail=${3:-}
  say "${IDS[node]}" "$step${detail:+: $detail}"
  NODE_STEPS="$NODE_STEPS${NODE_STEPS:+, }{\"step\": $(json "$step"), \"detail\": $(json "$detail"),"
  NODE_STEPS="$NODE_STEPS \"seconds\": $((SECONDS - STEP_BEGAN))}"
  STEP_BEGAN=$SECONDS
}

end_node() {
  local node=$1 outcome=$2
  REPORT_NODES="$REPORT_NODES${REPORT_NODES:+,}
    {\"node\": $(json "${IDS[node]}"), \"outcome\": $(json "$outcome"),
     \"from\": $(json "$OLD_VERSION"), \"to\": $(json "$NEW_VERSION"),
     \"seconds\": $((SECONDS - NODE_BEGAN)), \"steps\": [$NODE_STEPS]}"
}

write_report() {
  local code=$1 outcome=$2
  [ -n "$REPORT" ] || return 0
  if ! printf '{"outcome": %s, "exit": %s, "why": %s, "image": %s,\n "started": %s, "ended": %s,
 "nodes": [%s]}\n' "$(json "$outcome")" "$code" "$(json "$WHY")" "$(json "$IMAGE")" \
    "$(json "$STARTED_AT")" "$(json "$(date -u +%Y-%m-%dT%H:%M:%SZ)")" "$REPORT_NODES" \
    >"$REPORT.new" || ! mv "$REPORT.new" "$REPORT"; then
    complain - "the report could not be written to $REPORT"
  fi
}

# --- the transport --------------------------------------------------------------------------------

# Signals only leave a mark, which is looked at between commands; so a docker stop is never left
# alone half-way. On the way back nobody looks.
STOP_FILE='' IS_GOING_BACK=false

is_interrupted() {
  [ "$IS_GOING_BACK" = false ] || return 1
  # $$ is the process that gets the signals; if it was killed, this one stops, too.
  [ -e "$STOP_FILE" ] || ! kill -0 $$ 2>/dev/null
}

# Runs a command for so many seconds at most; it is killed then.
within() {
  local seconds=$1 command watcher status
  shift
  "$@" </dev/null &
  command=$!
  {
    for ((; seconds > 0; seconds--)); do sleep 1; done
    kill "$command"
  } >/dev/null 2>&1 &
  watcher=$!
  wait "$command" 2>/dev/null
  status=$?
  # A TERM may get lost while the watcher is being forked; its last nap ends by itself.
  kill -KILL "$watcher" 2>/dev/null
  wait "$watcher" 2>/dev/null
  return "$status"
}

# Runs a command of sh on a node's host. ssh says 255 when the connection failed: then it is tried
# again, so a command must be one that may be given twice.
remote() {
  local node=$1 command=$2 seconds=${3:-$REMOTE_TIMEOUT_SECONDS} attempt=1 status
  while :; do
    ! is_interrupted || return 130
    # shellcheck disable=SC2086  # $SSH is a command with its options
    within "$seconds" $SSH "${TARGETS[node]}" "$command"
    status=$?
    if [ "$status" -ne 255 ] || [ "$attempt" -ge "$SSH_ATTEMPTS" ]; then return "$status"; fi
    attempt=$((attempt + 1))
    sleep "$SSH_RETRY_SECONDS"
  done
}

docker_on() { remote "$1" "$DOCKER $2" "${3:-}"; }

kvnode_on() { remote "$1" "$DOCKER exec $CONTAINER_NAME kvnode $2" "${3:-}"; }

# --- the lock -------------------------------------------------------------------------------------

# A directory on each host, since mkdir is atomic everywhere; in the order of NODES, so that two
# rolls meet at the first node that they share.
LOCKED=()

lock_of() { quote "$LOCK_DIR/$CONTAINER_NAME-${IDS[$1]}.rolling-update.lock"; }

take_locks() {
  local node me owner status
  me="$(id -un)@$(hostname)"
  for ((node = 0; node < ${#IDS[@]}; node++)); do
    take_lock "$node" "$me pid $$ since $STARTED_AT"
    status=$?
    if [ "$status" -eq 17 ]; then
      owner=$(remote "$node" "cat $(lock_of "$node")/owner")
      if is_dead "$owner" "$me"; then
        say "${IDS[node]}" "the roll that had the lock is dead: $owner"
        break_lock "$node" && take_lock "$node" "$me pid $$ since $STARTED_AT"
        status=$?
      fi
    fi
    if [ "$status" -eq 17 ]; then
      because "another roll has the lock: $owner"
      complain "${IDS[node]}" "$WHY"
      advise "Wait for that roll. If it is dead: rolling-update.sh --unlock"
      finish "$EXIT_LOCKED" locked
    elif [ "$status" -ne 0 ]; then
      because "${IDS[node]} cannot be locked: ${TARGETS[node]} is not reached, or no directory made"
      refuse "$node" "Try by hand: $SSH ${TARGETS[node]} mkdir $(lock_of "$node")"
    fi
    LOCKED+=("$node")
  done
}

# 17 if somebody else has it. Asked twice because the first answer was lost, it finds its own name.
take_lock() {
  local lock owner
  lock=$(lock_of "$1") owner=$(quote "$2")
  remote "$1" "if mkdir $lock 2>/dev/null; then echo $owner >$lock/owner
    elif [ -d $lock ]; then [ \"\$(cat $lock/owner 2>/dev/null)\" = $owner ] || exit 17
    else exit 1; fi"
}

# A process of this very machine and user that is no more.
is_dead() {
  local pid=${1#"$2 pid "}
  pid=${pid%% *}
  [ "${1#"$2 pid "}" != "$1" ] && matches "$pid" '^[0-9]+$' && ! kill -0 "$pid" 2>/dev/null
}

release_locks() {
  local node lock
  for node in ${LOCKED[@]+"${LOCKED[@]}"}; do
    lock=$(lock_of "$node")
    remote "$node" "rm -f $lock/owner; rmdir $lock" 2>/dev/null \
      || complain "${IDS[node]}" "its lock is still there; remove it with --unlock"
  done
  LOCKED=()
}

break_locks() {
  local node
  for ((node = 0; node < ${#IDS[@]}; node++)); do
    break_lock "$node" || complain "${IDS[node]}" "could not be unlocked"
  done
}

break_lock() {
  local lock
  lock=$(lock_of "$1")
  remote "$1" "[ -d $lock ] || exit 0; echo \"lock removed: \$(cat $lock/owner)\"
    rm -f $lock/owner; rmdir $lock"
}

# --- the ends -------------------------------------------------------------------------------------

finish() {
  local code=$1 outcome=$2
  IS_GOING_BACK=true
  release_locks
  write_report "$code" "$outcome"
  trap - EXIT
  exit "$code"
}

# Nothing of this node was changed.
refuse() {
  local node=$1
  shift
  ! is_interrupted || WHY=interrupted
  complain "${IDS[node]}" "refused: $WHY"
  advise "$@" "Nothing of ${IDS[node]} was changed. When it is put right, run this again: nodes that" \
    "are up to date are skipped."
  end_node "$node" refused
  finish "$EXIT_REFUSED" refused
}

# --- asking a node --------------------------------------------------------------------------------

S_NODE='' S_NODE_ID='' S_CLUSTER='' S_VERSION='' S_READY='' S_ROLE='' S_LEADER='' S_TERM=''
S_COMMIT='' S_APPLIED='' S_RECOVERING='' S_DRAINING='' S_FATAL=''

ask_status() {
  local node=$1 lines
  lines=$(kvnode_on "$node" "status --get node node_id cluster_id version ready role leader term \
commit applied recovering draining fatal.reason" 2>/dev/null)
  # Exit 1 tells that there is no leader, and the lines are there all the same.
  case $? in (0|1) ;; (*) return 1 ;; esac
  {
    read -r S_NODE; read -r S_NODE_ID; read -r S_CLUSTER; read -r S_VERSION; read -r S_READY
    read -r S_ROLE; read -r S_LEADER; read -r S_TERM; read -r S_COMMIT; read -r S_APPLIED
    read -r S_RECOVERING; read -r S_DRAINING; read -r S_FATAL
  } <<LINES
$lines
LINES
  # One that is held because of its configuration does not know its name.
  [ -n "$S_NODE$S_FATAL" ]
}

container_state() {
  docker_on "$1" "inspect --format '{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}' $2" \
    2>/dev/null
}

# Prints the images and fingerprint that a container was made of; fails if there is none.
container_made_of() {
  docker_on "$1" "inspect --format '{{.Image}} {{index .Config.Labels \"kvnode.fingerprint\"}}' $2" \
    2>/dev/null
}

# --- the image ------------------------------------------------------------------------------------

IMAGE_IDS=() NEW_VERSION='' OLD_VERSION=''

# All hosts have the image before the first node is touched, and it can tell its version.
fetch_images() {
  local node image version
  image=$(quote "$IMAGE")
  for node in "${ORDER[@]}"; do
    begin_node
    fetch_image "$node" "$image" \
      || { because "${TARGETS[node]} cannot get $IMAGE"
           refuse "$node" "Try it there: $DOCKER pull $IMAGE"; }
    IMAGE_IDS[node]=$(docker_on "$node" "image inspect --format '{{.Id}}' $image") \
      || { because "there is no $IMAGE"; refuse "$node" "Build or pull it there."; }
    version=$(docker_on "$node" "run --rm --network none --read-only --cap-drop ALL \
--label kvnode.purpose=version $image --version")
    matches "$version" '^kvnode ([0-9][0-9A-Za-z.+-]*)$' \
      || { because "$IMAGE does not start: --version said '$version'"
           refuse "$node" "Try it there: $DOCKER run --rm $IMAGE --version"; }
    version=${version#kvnode }
    [ -z "$NEW_VERSION" ] || [ "$NEW_VERSION" = "$version" ] \
      || { because "$IMAGE is $version here and $NEW_VERSION on another host"
           refuse "$node" "Give a tag or digest that means one image."; }
    NEW_VERSION=$version
  done
}

fetch_image() {
  case $PULL in
    (always) docker_on "$1" "pull -q $2" "$PULL_TIMEOUT_SECONDS" >/dev/null ;;
    (missing) docker_on "$1" "image inspect $2 >/dev/null 2>&1 || $DOCKER pull -q $2 >/dev/null" \
      "$PULL_TIMEOUT_SECONDS" ;;
    (never) ;;
  esac
}

# Versions are adjacent when they have the same major number, and minor ones at most one apart.
are_adjacent() {
  local one=$1 other=$2 apart
  matches "$one" '^[0-9]+\.[0-9]+' && matches "$other" '^[0-9]+\.[0-9]+' || return 1
  [ "${one%%.*}" = "${other%%.*}" ] || return 1
  one=${one#*.} other=${other#*.}
  apart=$((${one%%[!0-9]*} - ${other%%[!0-9]*}))
  [ "$apart" -ge -1 ] && [ "$apart" -le 1 ]
}

# --- before a node --------------------------------------------------------------------------------

# All that must hold before `node` may be stopped.
check_before() { check_host_of "$1" && settle "$1"; }

# What passes by itself (a term that changes, a follower that catches up) gets
# SETTLE_TIMEOUT_SECONDS to pass. Without a node: the cluster alone.
settle() {
  local node=${1:-} deadline=$((SECONDS + SETTLE_TIMEOUT_SECONDS))
  until check_cluster && { [ -z "$node" ] || check_node_may_stop "$node"; }; do
    [ "$SECONDS" -lt "$deadline" ] && ! is_interrupted || return 1
    sleep "$POLL_SECONDS"
  done
}

# Its host: the data where we think it is, the password, room on the disk.
check_host_of() {
  local node=$1 source used
  source=$(docker_on "$node" "inspect --format \
'{{range .Mounts}}{{if eq .Destination \"/data\"}}{{.Source}}{{end}}{{end}}' $CONTAINER_NAME")
  [ "$source" = "$DATA_DIR" ] \
    || because "its data is in '$source', and DATA_DIR says $DATA_DIR" || return 1
  if [ -n "$PASSWORD_FILE" ]; then
    remote "$node" "[ -f $(quote "$PASSWORD_FILE") ]" \
      || because "$PASSWORD_FILE is not on ${TARGETS[node]} (PASSWORD_FILE)" || return 1
  fi
  used=$(remote "$node" "df -Pk $(quote "$DATA_DIR")" | tail -n 1)
  # Device, blocks, used, available, per cent, mount point.
  used=${used%\%*} used=${used##* }
  matches "$used" '^[0-9]+$' || because "df does not tell how full $DATA_DIR is" || return 1
  [ $((100 - used)) -ge "$DISK_FREE_PERCENT_MIN" ] \
    || because "its disk is nearly full: $((100 - used)) % free, DISK_FREE_PERCENT_MIN is \
$DISK_FREE_PERCENT_MIN"
}

LEADER='' CLUSTER_COMMIT=0

# Every member: answers, is well, agrees on the leader, is not behind, and may meet the new version.
# Sets LEADER and CLUSTER_COMMIT.
check_cluster() {
  local node term='' id applied=()
  LEADER=''
  for ((node = 0; node < ${#IDS[@]}; node++)); do
    id=${IDS[node]}
    ask_status "$node" || because "$id cannot be asked how it is" || return 1
    [ -z "$S_FATAL" ] || because "$id is held: $S_FATAL" || return 1
    [ "$S_NODE" = "$id" ] || because "on ${TARGETS[node]} there is $S_NODE, not $id" || return 1
    [ "$S_READY" = true ] || [ "$S_DRAINING" = true ] \
      || because "$id is not ready" || return 1
    [ "$S_DRAINING" != true ] || because "$id is draining; kvnode drain --undo" || return 1
    [ "$S_RECOVERING" != true ] || because "$id is recovering, and counts in no quorum" || return 1
    [ -n "$S_LEADER" ] || because "$id knows no leader" || return 1
    [ "$node" -eq 0 ] || { [ "$S_LEADER" = "$LEADER" ] && [ "$S_TERM" = "$term" ]; } \
      || because "the leader is $LEADER in term $term for ${IDS[0]}, $S_LEADER in $S_TERM for $id" \
      || return 1
    are_adjacent "$S_VERSION" "$NEW_VERSION" \
      || because "$id runs $S_VERSION, and $NEW_VERSION is not adjacent to that" || return 1
    LEADER=$S_LEADER term=$S_TERM applied[node]=${S_APPLIED:-0}
    [ "$S_LEADER" != "$id" ] || CLUSTER_COMMIT=${S_COMMIT:-0}
  done
  all_are_named || return 1
  for ((node = 0; node < ${#IDS[@]}; node++)); do
    [ $((CLUSTER_COMMIT - applied[node])) -le "$LAG_ENTRIES_MAX" ] \
      || because "${IDS[node]} is $((CLUSTER_COMMIT - applied[node])) entries behind" || return 1
  done
}

# Whoever is not named in NODES cannot be asked, and would be forgotten in every check.
all_are_named() {
  local place names='' name
  for ((place = 0; place <= ${#IDS[@]}; place++)); do names="$names members.$place.name"; done
  for name in $(kvnode_on 0 "status --get$names" 2>/dev/null); do
    node_called "$name" >/dev/null || because "NODES does not name the member $name" || return 1
  done
}

# The node's own judgement and its leader's: quorum without it, pending changes, lag, disk.
check_node_may_stop() {
  local node=$1 reasons reason left=''
  reasons=$(kvnode_on "$node" "drain --check" 2>/dev/null)
  case $? in
    (0) return 0 ;;
    (1) ;;
    (*) because "${IDS[node]} cannot be asked whether it may be stopped"; return 1 ;;
  esac
  while read -r reason; do
    case $ALLOW_DOWNTIME:$reason in
      (true:*quorum*|true:*'only voter'*) ;;
      (*) left="$left${left:+; }$reason" ;;
    esac
  done <<REASONS
$reasons
REASONS
  [ -z "$left" ] || because "it may not be stopped now: $left"
}

# --- one node -------------------------------------------------------------------------------------

PREVIOUS='' WAS_NODE_ID='' WAS_CLUSTER='' WAS_ROLE='' COMMIT_AT_STOP=0

note_before() {
  local node=$1
  ask_status "$node" || because "it cannot be asked how it is" || return 1
  WAS_NODE_ID=$S_NODE_ID WAS_CLUSTER=$S_CLUSTER OLD_VERSION=$S_VERSION
  WAS_ROLE=$(membership_of "$S_ROLE")
}

membership_of() { if [ "$1" = learner ]; then echo learner; else echo voter; fi; }

# Leadership goes to the best follower, load balancers are told, clients get time to leave.
drain_node() {
  local node=$1 said
  said=$(kvnode_on "$node" "drain --wait --timeout ${DRAIN_TIMEOUT_SECONDS}s" \
    $((DRAIN_TIMEOUT_SECONDS + REMOTE_TIMEOUT_SECONDS)) 2>&1) \
    || because "it could not be drained: $(last_line "$said")" || return 1
  step_done "$node" drained "$(last_line "$said")"
}

last_line() { printf '%s\n' "$1" | tail -n 1; }

undo_drain() {
  kvnode_on "$1" "drain --undo" >/dev/null 2>&1 \
    || complain "${IDS[$1]}" "is still draining: kvnode drain --undo"
}

# Somebody else leads, all others agree; its commit index is what the node must reach again.
note_commit() {
  local node=$1 other leader deadline=$((SECONDS + SETTLE_TIMEOUT_SECONDS))
  COMMIT_AT_STOP=0
  while :; do
    leader=''
    for ((other = 0; other < ${#IDS[@]}; other++)); do
      [ "$other" -ne "$node" ] || [ ${#IDS[@]} -eq 1 ] || continue
      if ! ask_status "$other" || [ -z "$S_LEADER" ]; then
        leader=''
        break
      fi
      [ -z "$leader" ] || [ "$leader" = "$S_LEADER" ] || { leader=''; break; }
      leader=$S_LEADER
      [ "${S_COMMIT:-0}" -le "$COMMIT_AT_STOP" ] || COMMIT_AT_STOP=$S_COMMIT
    done
    if [ -n "$leader" ] && { [ "$leader" != "${IDS[node]}" ] || [ ${#IDS[@]} -eq 1 ]; }; then break; fi
    because "the others do not agree on another leader" || [ "$SECONDS" -lt "$deadline" ] || return 1
    ! is_interrupted || return 1
    sleep "$POLL_SECONDS"
  done
  step_done "$node" "leader is $leader" "commit $COMMIT_AT_STOP"
}

# Under another name from before it stops until the new one has proved itself: whatever ends a roll
# in between, the next one sees it, and puts it back.
set_aside() {
  docker_on "$1" "inspect $PREVIOUS >/dev/null 2>&1 || $DOCKER rename $CONTAINER_NAME $PREVIOUS" \
    || because "the old container cannot be renamed"
}

stop_old() {
  local node=$1 state
  docker_on "$node" "stop -t $STOP_TIMEOUT_SECONDS $PREVIOUS >/dev/null" \
    $((STOP_TIMEOUT_SECONDS + REMOTE_TIMEOUT_SECONDS)) \
    || because "docker stop failed" || return 1
  state=$(container_state "$node" "$PREVIOUS")
  case $state in
    (exited\ *\ 0) step_done "$node" stopped "exit code 0" ;;
    (exited\ *\ 137) because "it was killed: it did not stop within $STOP_TIMEOUT_SECONDS s" ;;
    (exited\ *) because "it left with exit code ${state##* }" ;;
    (*) because "after docker stop it is '$state'" ;;
  esac
}

start_new() {
  local node=$1 line
  line=$(run_line "$node")
  # Given twice it starts what the first time made.
  remote "$node" "if $DOCKER inspect $CONTAINER_NAME >/dev/null 2>&1; then
      $DOCKER start $CONTAINER_NAME; else $line; fi >/dev/null" \
    || because "docker run failed" || return 1
  step_done "$node" started "$IMAGE"
}

# Waits until the node has come back as who it was, and stays so for `stable` seconds.
wait_until_back() {
  local node=$1 version=$2 stable=$3 deadline=$((SECONDS + HEALTH_TIMEOUT_SECONDS)) since=''
  while :; do
    if is_doomed "$node"; then return 1; fi
    if ! is_back "$node" "$version"; then
      since=''
    elif [ -z "$since" ]; then
      if probe "$node"; then
        since=$SECONDS
        step_done "$node" back "applied $S_APPLIED, a write and a read went through it"
      fi
    elif [ $((SECONDS - since)) -ge "$stable" ]; then
      if probe "$node"; then
        step_done "$node" stable "for $stable s"
        return 0
      fi
      since=''
    fi
    if [ -z "$since" ] && [ "$SECONDS" -ge "$deadline" ]; then
      WHY="not back after $HEALTH_TIMEOUT_SECONDS s: $WHY"
      return 1
    fi
    if is_interrupted; then because interrupted; return 1; fi
    sleep "$POLL_SECONDS"
  done
}

# True when waiting is of no use: it ended, or it holds a fatal error.
is_doomed() {
  local node=$1 state
  state=$(container_state "$node" "$CONTAINER_NAME") || return 1
  case $state in
    ('running 0 '*) ;;
    (running\ *|restarting\ *) WHY="it ended and was started again: $state"; return 0 ;;
    (exited\ *|dead\ *) WHY="it ended with exit code ${state##* }"; return 0 ;;
  esac
  if ask_status "$node" && [ -n "$S_FATAL" ]; then WHY="it is held: $S_FATAL"; return 0; fi
  return 1
}

# Same identity, expected version, voter as before, ready, and caught up with what was committed
# when it was stopped.
is_back() {
  local node=$1 version=$2
  WHY=''
  ask_status "$node" || because "it does not answer" || return 1
  [ "$S_NODE_ID" = "$WAS_NODE_ID" ] && [ "$S_CLUSTER" = "$WAS_CLUSTER" ] \
    || because "it is member $S_NODE_ID of $S_CLUSTER, and was $WAS_NODE_ID of $WAS_CLUSTER" \
    || return 1
  [ "$S_VERSION" = "$version" ] || because "it runs $S_VERSION, not $version" || return 1
  [ "$S_READY" = true ] || because "it is not ready" || return 1
  [ "$S_RECOVERING" != true ] || because "it is recovering" || return 1
  [ "$(membership_of "$S_ROLE")" = "$WAS_ROLE" ] || because "it is a $S_ROLE" || return 1
  [ -n "$S_LEADER" ] || because "it knows no leader" || return 1
  [ "${S_APPLIED:-0}" -ge "$COMMIT_AT_STOP" ] \
    || because "it has applied $S_APPLIED of $COMMIT_AT_STOP"
}

# A write and a linearizable read, through this node.

probe() {
  local said
  said=$(kvnode_on "$1" probe 2>&1) || because "a write and a read do not go through it: \
$(last_line "$said")"
}

keep_new() {
  docker_on "$1" "rm $PREVIOUS >/dev/null" \
    || complain "${IDS[$1]}" "its old container is still there: $DOCKER rm $PREVIOUS"
}

# --- the way back ---------------------------------------------------------------------------------

# Puts the previous container back. Each step may have been done before.
roll_back() {
  local node=$1
  docker_on "$node" "inspect $PREVIOUS >/dev/null 2>&1"
  case $? in
    (0) swap_back "$node" || return 1 ;;
    (1) ;; # it was not set aside yet, or is back already
    (*) because "${TARGETS[node]} is not reached"; return 1 ;;
  esac
  docker_on "$node" "start $CONTAINER_NAME >/dev/null" || because "the old container does not start"
}

swap_back() {
  local node=$1
  docker_on "$node" "inspect $CONTAINER_NAME >/dev/null 2>&1 || exit 0
    $DOCKER logs --tail $LOG_LINES $CONTAINER_NAME 2>&1 | sed 's/^/    | /'" >&2
  docker_on "$node" "inspect $CONTAINER_NAME >/dev/null 2>&1 || exit 0
    $DOCKER stop -t $STOP_TIMEOUT_SECONDS $CONTAINER_NAME >/dev/null
    $DOCKER rm -f $CONTAINER_NAME >/dev/null" \
    $((STOP_TIMEOUT_SECONDS + REMOTE_TIMEOUT_SECONDS)) \
    || because "the new container cannot be removed" || return 1
  docker_on "$node" "rename $PREVIOUS $CONTAINER_NAME || ! $DOCKER inspect $PREVIOUS >/dev/null 2>&1" \
    || because "the old container cannot be renamed"
}

# A step of this node failed after it was stopped.
fail() {
  local node=$1 why=$WHY id=${IDS[$1]}
  IS_GOING_BACK=true
  complain "$id" "failed: $why"
  complain "$id" "rolling back to the previous container"
  if roll_back "$node" && wait_until_back "$node" "$OLD_VERSION" "$STABLE_SECONDS"; then
    complain "$id" "the previous image is back, $OLD_VERSION"
    advise "The others were not touched after it; the cluster is whole, versions may be mixed." \
      "Find out why $IMAGE failed on $id (its last log lines are above), then run this again."
    end_node "$node" "rolled back"
  else
    complain "$id" "the way back failed, too: $WHY"
    advise "$id is down, or not well. The others go on as long as they have a quorum: stop no other." \
      "Once ${TARGETS[node]} can be reached, run this again: it first puts the old container back." \
      "By hand, on ${TARGETS[node]}, where the old container is $PREVIOUS until it is renamed:" \
      "  $DOCKER rm -f $CONTAINER_NAME; $DOCKER rename $PREVIOUS $CONTAINER_NAME" \
      "  $DOCKER start $CONTAINER_NAME; $DOCKER exec $CONTAINER_NAME kvnode status"
    end_node "$node" failed
  fi
  WHY=$why
  finish "$EXIT_FAILED" failed
}

# What a roll that died left behind: a previous container beside or instead of the present one.
put_back_leftovers() {
  local node state
  COMMIT_AT_STOP=0
  for ((node = 0; node < ${#IDS[@]}; node++)); do
    docker_on "$node" "inspect $PREVIOUS >/dev/null 2>&1" || continue
    begin_node
    state=$(container_state "$node" "$CONTAINER_NAME")
    case $state in
      (running\ *)
        if ask_status "$node" && [ "$S_READY" = true ] && probe "$node"; then
          say "${IDS[node]}" "an earlier roll ended before it removed the previous container: removed"
          keep_new "$node"
          continue
        fi ;;
    esac
    say "${IDS[node]}" "an earlier roll ended in the middle: its previous container is put back"
    roll_back "$node" || { because "what an earlier roll left cannot be put back"
      refuse "$node" "On ${TARGETS[node]}: $DOCKER ps -a, and the log of $CONTAINER_NAME"; }
    kvnode_on "$node" "drain --undo" >/dev/null 2>&1
  done
}

# --- the roll -------------------------------------------------------------------------------------

PENDING=() UPDATED=0

# The next node: the canary, then the first in the order that does not lead. The leader is left
# for the end.
next_node() {
  local node
  if [ "${IDS[PENDING[0]]}" = "$CANARY" ]; then printf '%s\n' "${PENDING[0]}"; return; fi
  for node in "${PENDING[@]}"; do
    [ "${IDS[node]}" = "$LEADER" ] || { printf '%s\n' "$node"; return; }
  done
  printf '%s\n' "${PENDING[0]}"
}

no_longer_pending() {
  local node left=()
  for node in "${PENDING[@]}"; do
    [ "$node" -eq "$1" ] || left+=("$node")
  done
  PENDING=(${left[@]+"${left[@]}"})
}

is_up_to_date() {
  [ "$(container_made_of "$1" "$CONTAINER_NAME")" = "${IMAGE_IDS[$1]} $(fingerprint_of "$1")" ]
}

roll_node() {
  local node=$1 stable=$STABLE_SECONDS
  [ "${IDS[node]}" != "$CANARY" ] || stable=$CANARY_SECONDS
  check_before "$node" || refuse "$node" "Look at: kvnode status, kvnode drain --check on each node"
  step_done "$node" checked "leader $LEADER, commit $CLUSTER_COMMIT"
  note_before "$node" || refuse "$node" "Look at: kvnode status"
  if ! drain_node "$node" || ! note_commit "$node" || is_interrupted; then
    undo_drain "$node"
    refuse "$node" "Look at: kvnode status (lag, connected)"
  fi
  { set_aside "$node" && stop_old "$node" && start_new "$node" \
    && wait_until_back "$node" "$NEW_VERSION" "$stable"; } || fail "$node"
  keep_new "$node"
  UPDATED=$((UPDATED + 1))
  end_node "$node" updated
}

# Those that have this image and configuration already; what is left is PENDING.
skip_up_to_date() {
  local node
  PENDING=()
  for node in "${ORDER[@]}"; do
    begin_node
    if is_up_to_date "$node"; then
      say "${IDS[node]}" "skipped: it has this image and configuration"
      OLD_VERSION=$NEW_VERSION
      end_node "$node" skipped
    else
      PENDING+=("$node")
    fi
  done
}

roll() {
  local node
  while [ ${#PENDING[@]} -gt 0 ]; do
    begin_node
    OLD_VERSION=''
    settle || refuse "${PENDING[0]}" "Look at: kvnode status on each node"
    node=$(next_node)
    roll_node "$node"
    no_longer_pending "$node"
    [ ${#PENDING[@]} -eq 0 ] || sleep "$ROLLING_DELAY_SECONDS"
  done
}

# The cluster as a whole, once more.
check_after() {
  settle && return
  complain - "the cluster is not well: $WHY"
  advise "Look at: kvnode status on each node"
  if [ "$UPDATED" -eq 0 ]; then finish "$EXIT_REFUSED" refused; fi
  finish "$EXIT_FAILED" failed
}

roll_all() {
  begin_report
  trap release_locks EXIT
  take_locks
  put_back_leftovers
  fetch_images
  skip_up_to_date
  roll
  check_after
  say - "done: $(ids_of "${ORDER[@]}") run $NEW_VERSION"
  WHY=''
  finish "$EXIT_DONE" "done"
}

# Runs a roll in a process that no signal reaches: a trap that runs while bash reads a $(…) can
# spoil that (seen with 5.2), and ssh is to finish what it does. This process takes the signals.
guarded() {
  local worker status
  STOP_FILE=$(mktemp) || wrong_usage "no file can be made in ${TMPDIR:-/tmp}"
  rm -f "$STOP_FILE"
  trap '' INT TERM HUP
  "$@" &
  worker=$!
  trap ': >"$STOP_FILE"; echo "interrupted: stopping when the present command is done" >&2' INT TERM HUP
  wait "$worker"
  status=$?
  # A signal ends the wait, not the roll.
  while kill -0 "$worker" 2>/dev/null; do wait "$worker"; status=$?; done
  rm -f "$STOP_FILE"
  exit "$status"
}

main() {
  parse_arguments "$@"
  read_env_file
  settle_variables
  check_variables
  read_nodes
  read_order
  merge_extra_env
  readonly PREVIOUS="$CONTAINER_NAME-previous"
  if [ "$DRY_RUN" = true ]; then print_plan
  elif [ "$UNLOCK" = true ]; then break_locks
  else guarded roll_all; fi
}

# The tests read the functions without running a roll.
[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
