# Servers to compare with, for the scripts that source this: started on free loopback ports with their defaults but
# persistence off, pinned to $server_core, and ended by the number of the process that was started.
#
# Usage: set server_core, load_core and (to keep others from those cores) realtime=1, then `source benches/servers.bash`.
#
# Gives: fail, need_number, ringmail (the executable), $work (a directory that goes at the end), has_server, start_server,
# stop_server, and on success of start_server: server_pid, server_address. One server at a time; for several, keep_server,
# use_server, stop_servers.

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# need_number NAME VALUE...
need_number() {
  local name=$1 value
  for value in "${@:2}"; do
    [[ $value =~ ^[0-9]+$ ]] || fail "$name: not a number: $value"
  done
}

for tool in jq taskset awk; do
  command -v "$tool" >/dev/null || fail "$tool is not installed"
done

# RINGMAIL names an executable already built, to compare two builds without building in between.
ringmail=${RINGMAIL:-}
if [[ -z $ringmail ]]; then
  ringmail=$(cargo build --release --features bench --bin ringmail --message-format json-render-diagnostics |
    jq -r 'select(.reason == "compiler-artifact" and .target.name == "ringmail") | .executable // empty' | tail -n 1)
fi
[[ -x $ringmail ]] || fail "no executable: ringmail '$ringmail'"

work=$(mktemp -d)
server_pid=
server_address=

stop_server() {
  [[ -n $server_pid ]] || return 0
  kill -TERM "$server_pid" 2>/dev/null || true
  wait "$server_pid" 2>/dev/null || true
  server_pid=
}

# keep_server NAME: the one just started goes on while others are started; use_server NAME makes it the one again.
declare -A kept_pid=() kept_address=()

keep_server() {
  kept_pid[$1]=$server_pid kept_address[$1]=$server_address
  server_pid=
}

use_server() {
  server_pid=${kept_pid[$1]} server_address=${kept_address[$1]}
}

stop_servers() {
  for server_pid in "${kept_pid[@]}"; do
    stop_server
  done
  kept_pid=()
}

cleanup() {
  stop_server
  stop_servers
  rm -rf -- "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A port below the range that clients are given, on which nobody answers. Another process may still take it in between: then
# the server says so and the run fails, rather than measuring a stranger.
free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  fail "no free port found"
}

# The executable of a server, where Debian's packages put it; some are not on a user's PATH.
executable() {
  case $1 in
    ringmail) echo "$ringmail" ;;
    redis) PATH=$PATH:/usr/sbin command -v redis-server ;;
    nats) PATH=$PATH:/usr/sbin command -v nats-server ;;
    mosquitto) PATH=$PATH:/usr/sbin command -v mosquitto ;;
    # benches/floor, whose executable the script that compares with it has named.
    tokio-tls) echo "$floor" ;;
  esac
}

has_server() {
  executable "$1" >/dev/null
}

# What the generator is told a server speaks.
protocol() {
  case $1 in
    mosquitto) echo mqtt ;;
    *) echo "$1" ;;
  esac
}

# What servers and load are run by when nobody else is to have their cores: a busy thread of ordinary priority, however nice,
# is off its core for a whole tick (4 ms where HZ is 250) whenever another program has something to do there.
first=()
if ((${realtime:-0})); then
  first=(chrt --rr 1)
  "${first[@]}" true 2>/dev/null || fail "--realtime needs root (CAP_SYS_NICE) and chrt"
  # Otherwise the kernel takes a core away from such threads for 50 ms of each second that they are busy.
  [[ $(cat /proc/sys/kernel/sched_rt_runtime_us) == -1 ]] ||
    fail "--realtime needs 'sysctl -w kernel.sched_rt_runtime_us=-1'; 950000 is what it was before"
fi

# start_server NAME [ARGUMENT...]: sets server_pid and server_address once the port answers. The arguments are the server's.
start_server() {
  local name=$1 program port
  program=$(executable "$name")
  port=$(free_port)
  server_address=127.0.0.1:$port
  shift
  case $name in
    ringmail) set -- serve --listen "$server_address" --set server.admin= "$@" ;;
    tokio-tls) set -- tls --listen "$server_address" "$@" ;;
    redis) set -- --bind 127.0.0.1 --port "$port" --save "" --appendonly no --dir "$work" "$@" ;;
    nats) set -- --addr 127.0.0.1 --port "$port" "$@" ;;
    mosquitto)
      # All else is as it comes; without a listener of its own it would serve nobody it does not know.
      printf 'listener %s 127.0.0.1\nallow_anonymous true\npersistence false\n' "$port" >"$work/mosquitto.conf"
      set -- -c "$work/mosquitto.conf" "$@"
      ;;
  esac
  # `exec` all the way down, so that the pid is the server's own.
  taskset -c "$server_core" "${first[@]}" "$program" "$@" >"$work/server.out" 2>"$work/server.err" &
  server_pid=$!
  for _ in {1..200}; do
    if ! kill -0 "$server_pid" 2>/dev/null; then
      cat -- "$work/server.out" "$work/server.err" >&2
      fail "$name did not start"
    fi
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      return
    fi
    sleep 0.05
  done
  fail "$name does not answer on $server_address"
}

# bench ARGUMENT...: the generator against the server that runs; the result in $work/load.json. Its status is returned.
bench() {
  taskset -c "$load_core" "${first[@]}" "$ringmail" bench "$@" --address "$server_address" --server-pid "$server_pid" --quiet \
    --output json >"$work/load.json" 2>"$work/load.err"
}

# What every table ends with: where and how it was measured.
colophon() {
  local cpu
  cpu=$(awk -F ': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
  echo "$(date -u +%F), Linux $(uname -r), ${cpu:-$(uname -m)}, $(nproc) cores: \`$1\`"
}
