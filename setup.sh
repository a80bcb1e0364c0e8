#!/usr/bin/env bash
# One command to set Darkroom up and do something with it. Safe to repeat; once set up, it starts at once.
#
#   ./setup.sh demo                 train a LoRA on the built-in tiny model and pictures
#   ./setup.sh test [words]         run the tests (words go to pytest)
#   ./setup.sh train_network ...    the same as: python -m backend train_network ...
#   ./setup.sh [gui] [words]        open the page in the browser (--listen, --server_port, --share ...; gui --help tells all)
#   ./setup.sh --help               list the commands
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv="$here/.venv"
python="$venv/bin/python"
torch_range=">=2.6,<2.14"
torch_cpu="torch==2.13.0"
torch_cpu_index="https://download.pytorch.org/whl/cpu"

main() {
  local what="${1:-}"
  case "$what" in
    test) install tests requirements.txt tests/requirements.txt ;;
    *)    install run requirements.txt ;;
  esac
  export PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}"
  case "$what" in
    gui)  shift; exec "$python" "$here/app.py" "$@" ;;
    -h|--help) exec "$python" -m backend --help ;;
    ""|--*) exec "$python" "$here/app.py" "$@" ;;
    test) shift; cd "$here"; install_browser; run_tests "$@" ;;
    *)    exec "$python" -m backend "$@" ;;
  esac
}

# The page's tests drive a browser. Where it cannot be installed they are skipped, and say so.
install_browser() {
  if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1; then return; fi
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    say "installing Chromium, for the tests of the page"
    if apt-get update >>"$here/.venv-install.log" 2>&1 \
      && apt-get install -y --no-install-recommends chromium fonts-dejavu fonts-noto-cjk >>"$here/.venv-install.log" 2>&1; then return; fi
  fi
  say "there is no Chromium, so the tests of the page in a browser are skipped. On Debian and Ubuntu: sudo apt install chromium"
}

run_tests() {
  local word
  for word in "$@"; do
    [ "$word" = "-m" ] && exec "$python" -m pytest "$@"
  done
  exec "$python" -m pytest -m "not slow" "$@"
}

fail() { echo "Darkroom: $*" >&2; exit 1; }

say() { echo "Darkroom: $*" >&2; }

# install NAME FILES: have the environment hold what the requirement files name. A stamp, written last, tells that it does.
install() {
  local name="$1" stamp wanted; shift
  stamp="$venv/.darkroom-$name"
  wanted=$(cd "$here" && cat "$@" | cksum)
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x "$python" ]; then return; fi
  [ -w "$here" ] || fail "the folder $here cannot be written to. Move Darkroom to a folder of your own."
  if command -v flock >/dev/null 2>&1; then
    exec 9>"$here/.venv.lock"
    flock -n 9 || { say "another setup is running here; waiting for it."; flock 9; }
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exec 9>&-; return; fi
  fi
  if ! environment_is_whole; then
    find_python >/dev/null
    enough_disk
  fi
  say "setting up; this happens once and takes a few minutes. Details: $here/.venv-install.log"
  : > "$here/.venv-install.log"
  make_environment
  install_torch
  local files=()
  local file; for file in "$@"; do files+=(-r "$here/$file"); done
  pip_install "the packages" "${files[@]}"
  echo "$wanted" > "$stamp.new" && mv "$stamp.new" "$stamp"
  # A test setup holds everything that a run needs.
  if [ "$name" = tests ]; then (cd "$here" && cksum < requirements.txt) > "$venv/.darkroom-run"; fi
  if command -v flock >/dev/null 2>&1; then exec 9>&-; fi
}

make_environment() {
  if environment_is_whole; then return; fi
  local base; base=$(find_python)
  rm -rf "$venv" || fail "the old environment $venv could not be removed. Remove it, then run this again."
  local share=()
  if has_own_torch "$base"; then
    say "this Python brings its own torch; it is used."
    share=(--system-site-packages)
  fi
  if ! "$base" -m venv ${share[@]+"${share[@]}"} "$venv" >>"$here/.venv-install.log" 2>&1; then
    # Debian and Colab leave ensurepip out; the outer pip can fill an environment that has none.
    rm -rf "$venv"
    "$base" -m venv --without-pip ${share[@]+"${share[@]}"} "$venv" >>"$here/.venv-install.log" 2>&1 \
      || fail "no virtual environment could be made in $venv. On Debian and Ubuntu: sudo apt install python3-venv"
    "$base" -m pip --version >/dev/null 2>&1 || fail "Python has no pip. On Debian and Ubuntu: sudo apt install python3-venv python3-pip"
    echo "$base" > "$venv/.outer-python"
  fi
  if [ "${#share[@]}" -gt 0 ] && ! has_own_torch "$python"; then show_packages_of "$base"; fi
}

# A setup that was stopped early may have left an environment without pip: it is made anew.
environment_is_whole() {
  [ -x "$python" ] && "$python" -c "" 2>/dev/null || return 1
  [ -f "$venv/.outer-python" ] || "$python" -m pip --version >/dev/null 2>&1
}

# --system-site-packages shows the system's packages, not those of a virtual environment that is active: name its folder.
show_packages_of() {
  local where='import sysconfig; print(sysconfig.get_path("purelib"))'
  "$1" -c "$where" > "$("$python" -c "$where")/outer-environment.pth"
}

find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
      command -v "$candidate"; return
    fi
  done
  fail "Python 3.11, 3.12, 3.13 or 3.14 is needed, and $(python3 --version 2>/dev/null || echo 'no Python') was found. Install it from python.org or your system's packages, then run this again."
}

enough_disk() {
  local needed=4 free
  if has_gpu; then needed=12; fi
  free=$(df -Pk "$here" | awk 'NR==2 {print int($4 / 1048576)}')
  [ "$free" -ge "$needed" ] || fail "$needed GB of free disk are needed to set up, and $here has $free GB. Free some space, then run this again."
}

has_gpu() { command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; }

has_own_torch() {
  "$1" - 2>/dev/null <<'PYTHON'
import sys
from importlib.metadata import version
found = tuple(int(part) for part in version("torch").split("+")[0].split(".")[:2])
sys.exit(not (2, 6) <= found < (2, 14))
PYTHON
}

install_torch() {
  if has_own_torch "$python"; then return; fi
  if has_gpu || [ "$(uname -s)" = Darwin ]; then
    pip_install "torch" "torch$torch_range"
  elif command -v curl >/dev/null 2>&1 && curl -sfIL --max-time 5 -o /dev/null "$torch_cpu_index/torch/"; then
    pip_install "torch for the CPU" "torch$torch_range" --index-url "$torch_cpu_index"
  else
    pip_install "torch for the CPU" "$torch_cpu"
  fi
}

# pip_install WHAT WORDS: install, or say in one line what went wrong.
pip_install() {
  local what="$1"; shift
  local pip=("$python" -m pip)
  if [ -f "$venv/.outer-python" ]; then pip=("$(cat "$venv/.outer-python")" -m pip --python "$python"); fi
  say "installing $what"
  if "${pip[@]}" install --no-user --disable-pip-version-check --no-input "$@" >>"$here/.venv-install.log" 2>&1; then return; fi
  if grep -qiE 'no space left' "$here/.venv-install.log"; then
    fail "the disk is full. Free some space, then run this again; it goes on where it was."
  elif grep -qiE 'name or service|name resolution|connection (refused|broken|timed|reset)|network is unreachable|max retries|newconnectionerror|proxyerror|getaddrinfo' "$here/.venv-install.log"; then
    fail "$what could not be fetched: the network or the package index does not answer. Check the connection, then run this again; it goes on where it was."
  elif grep -q 'from versions: none' "$here/.venv-install.log"; then
    fail "$what could not be found for $("$python" --version). Check the connection and pip's settings, or use Python 3.11 to 3.13, then run this again."
  fi
  fail "$what could not be installed: $(grep -iE '^ *error' "$here/.venv-install.log" | tail -n 1 || true). Details: $here/.venv-install.log"
}

main "$@"
