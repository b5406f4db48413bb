#!/usr/bin/env python3
"""Makes sure libtorch is on this machine; prints the folder to put into LIBTORCH.

The tree comes from the official PyTorch wheel and lands in a cache folder, once:
later runs only look, and need no network. Nothing outside the cache is touched.

    OFB_CACHE   the cache folder (default ~/.cache/once-for-both)
    OFB_CUDA    1: with CUDA, 0: CPU only (default: CUDA if an NVIDIA GPU is here)
    LIBTORCH, LIBTORCH_USE_PYTORCH
                your own libtorch: it wins, and nothing is installed

    --plan      only say what would be done
"""

import collections
import contextlib
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile

VERSION = "2.13.0"  # the one libtorch that tch 0.26 binds

# The wheel is the CUDA build. libtorch_cpu.so, too, is linked against these two.
CPU_NEEDS = ["nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*"]

# What the wheel itself asks for, without its Python side (triton, sympy, ...).
CUDA_NEEDS = [
    "cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]"
    "==13.0.3",
    "nvidia-cudnn-cu13==9.20.0.48",
    "nvidia-cusparselt-cu13==0.8.1",
    "nvidia-nccl-cu13==2.29.7",
    "nvidia-nvshmem-cu13==3.4.5",
]
CUDA_DRIVER = 580  # the oldest NVIDIA driver that runs CUDA 13

# The same wheel whatever Python runs this: only its C++ side is used.
WHEEL = ["--implementation", "cp", "--python-version", "3.12", "--abi", "cp312", "--ignore-requires-python"]
GLIBC = (2, 28)  # the wheel is manylinux_2_28
PIP = (20, 3)  # the first pip that knows such wheels

# Free space wanted for an installation: the downloads and the unpacked tree side by side.
ROOM_GB = {"cpu": 2, "cuda": 10}

KEY_FILES = [
    "torch/lib/libc10.so",
    "torch/lib/libtorch.so",
    "torch/lib/libtorch_cpu.so",
    "torch/include/ATen/ATen.h",
    "torch/include/torch/csrc/api/include/torch/torch.h",
]

OWN = "set LIBTORCH to a libtorch %s, or LIBTORCH_USE_PYTORCH=1 to use the PyTorch of python3" % VERSION


class Stop(Exception):
    """The end of the road: one clear line, and what the failing tool said, if any."""

    def __init__(self, line, said=()):
        super().__init__(line)
        self.said = said


def say(line):
    print("libtorch: " + line, file=sys.stderr, flush=True)


def users_own():
    """The user's own LIBTORCH ("" when torch-sys asks Python), or None to go by the cache."""
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        return ""  # torch-sys looks at this one first
    root = os.environ.get("LIBTORCH")
    if not root:
        return None
    lib = os.path.join(os.environ.get("LIBTORCH_LIB") or root, "lib")
    if not os.path.isdir(lib):
        raise Stop("LIBTORCH is set to %s, but there is no folder %s: correct or unset it" % (root, lib))
    return root


def driver():
    """The NVIDIA driver's major version, 0 if there is one but it does not tell, None without."""
    text = ""
    with contextlib.suppress(OSError):
        with open("/proc/driver/nvidia/version") as file:
            text = file.read()
    if not text:
        ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            text = subprocess.run(ask, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                                  universal_newlines=True, timeout=30).stdout
    if not text:
        return 0 if os.path.exists("/dev/nvidia0") else None
    found = re.search(r"\b(\d{3,4})\.\d+", text)
    return int(found.group(1)) if found else 0


def choose():
    """ "cpu" or "cuda", and why."""
    wish = os.environ.get("OFB_CUDA", "")
    if wish not in ("", "0", "1"):
        raise Stop("OFB_CUDA is %r: use 1 (CUDA), 0 (CPU only), or leave it unset" % wish)
    if wish:
        return ("cuda" if wish == "1" else "cpu"), "OFB_CUDA=" + wish
    major = driver()
    if major is None:
        return "cpu", "no NVIDIA GPU here"
    if 0 < major < CUDA_DRIVER:
        return "cpu", "NVIDIA driver %d is too old for CUDA 13: it takes %d" % (major, CUDA_DRIVER)
    return "cuda", "there is an NVIDIA GPU"


def check_machine():
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in ("x86_64", "amd64"):
        raise Stop("no automatic set-up on %s %s: %s" % (system, machine, OWN))
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if name != "glibc" or numbers < GLIBC:
        raise Stop("the libtorch wheel runs on glibc 2.28 or newer, here is %s: %s"
                   % (" ".join((name, version)).strip() or "another C library", OWN))


def complete(tree, kind):
    keys = KEY_FILES + (["torch/lib/libtorch_cuda.so"] if kind == "cuda" else [])
    return all(os.path.isfile(path) and os.path.getsize(path)
               for path in (os.path.join(tree, key) for key in keys))


def pip_environment(scratch):
    """Of the user's pip settings, those that say where packages come from are kept; those
    that say where they go (user, prefix, require-virtualenv, ...) would fight --target."""
    source = re.compile(r"PIP_(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|PROXY|CERT|CLIENT_CERT|TRUSTED_HOST"
                        r"|(DEFAULT_)?TIMEOUT|RETRIES|CONFIG_FILE|KEYRING_PROVIDER|USE_(FEATURE|DEPRECATED))$")
    env = {name: value for name, value in os.environ.items()
           if not name.startswith("PIP_") or source.match(name)}
    # Over settings in pip.conf, too. Nothing outside --target is written, so a Python
    # managed by the system is not harmed.
    env.update(PIP_USER="0", PIP_REQUIRE_VIRTUALENV="0", PIP_BREAK_SYSTEM_PACKAGES="1",
               PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    # pip unpacks here first: inside the cache it is a rename to the target, not a copy of a
    # gigabyte out of a /tmp that may be small.
    env.update(TMPDIR=scratch, PYTHONUNBUFFERED="1", LC_ALL="C.UTF-8")
    return env


def check_pip():
    found = subprocess.run([sys.executable, "-m", "pip", "--version"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, universal_newlines=True)
    if found.returncode:
        debian = sys.prefix == "/usr" and shutil.which("apt-get")  # has no ensurepip
        remedy = "apt-get install python3-pip" if debian else "%s -m ensurepip --upgrade" % sys.executable
        raise Stop("%s has no pip: %s" % (sys.executable, remedy), found.stdout.splitlines())
    version = re.match(r"pip (\d+)\.(\d+)", found.stdout)
    if version and tuple(map(int, version.groups())) < PIP:
        raise Stop("%s is too old for this wheel: %s -m pip install --upgrade pip"
                   % (version.group(), sys.executable))


def why(output):
    """What pip's complaint means for the person in front of it."""
    text = "\n".join(output)
    if re.search(r"No space left on device|Disk quota exceeded", text):
        return "the disk is full: make room, or set OFB_CACHE to a folder with more"
    if re.search(r"CERTIFICATE_VERIFY_FAILED|SSLError", text):
        return "the package index's certificate is not trusted here: see pip's option --cert"
    if re.search(r"NewConnectionError|NameResolutionError|Connect(ion)?(Timeout|Refused|Reset|ion broken)"
                 r"|ReadTimeout|ProxyError|Max retries|Network is unreachable|Name or service not known"
                 r"|IncompleteRead|ProtocolError|Connection aborted|\b(403|5\d\d) (Client|Server) Error", text):
        return "the package index cannot be reached: check the network (and PIP_INDEX_URL), or " + OWN
    if re.search(r"No matching distribution", text):
        return "the package index does not have it or cannot be reached: check PIP_INDEX_URL and the like, or " + OWN
    return "pip failed; " + OWN


def pip(requirements, target, scratch, lock, wheel=WHEEL):
    # No pip cache: the tree is the cache, and the wheels would be kept a second time.
    command = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-compile", "--progress-bar", "off",
               "--only-binary", ":all:", "--target", target] + wheel + requirements
    last = collections.deque(maxlen=200)
    # pip inherits the lock: should this script be killed, the next one waits until the
    # orphan is gone before it clears up.
    with subprocess.Popen(command, env=pip_environment(scratch), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, universal_newlines=True, errors="replace",
                          pass_fds=[lock.fileno()]) as process:
        try:
            for line in process.stdout:
                last.append(line.rstrip())
                if line.startswith("WARNING: Retrying"):
                    say("pip: no answer, trying again")
                elif line.lstrip().startswith(("Downloading", "Installing")):
                    say("pip: " + line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise Stop("could not install %s: %s" % (requirements[-1], why(last)), list(last)[-6:])


def trim(tree, kind):
    """Leaves what a program links and loads: the libraries, the headers, the licences."""
    torch = os.path.join(tree, "torch")
    for folder, keep in ((tree, r"torch|nvidia|.*\.dist-info"), (torch, r"lib|include|share")):
        for entry in list(os.scandir(folder)):
            if re.fullmatch(keep, entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                os.remove(entry.path)
    lib = os.path.join(torch, "lib")
    if kind == "cpu":
        # torch-sys links libtorch_cuda.so where it sees it, and these cannot load without it.
        for name in os.listdir(lib):
            if re.fullmatch(r"libtorch_(cuda.*|nvshmem|python)\.so", name):
                os.remove(os.path.join(lib, name))
        # libtorch.so is an empty shell that names its parts. Let it name the CPU part twice
        # rather than a missing one, so that -ltorch works whatever the linker's options.
        path = os.path.join(lib, "libtorch.so")
        with open(path, "rb") as file:
            shell = file.read()
        with open(path, "wb") as file:
            file.write(shell.replace(b"\0libtorch_cuda.so\0", b"\0libtorch_cpu.so\0\0"))
    # As in the libtorch archives: torch-sys then refuses a version it was not made for.
    with open(os.path.join(torch, "build-version"), "w") as file:
        file.write(VERSION + "\n")


def install(tree, kind, lock):
    """A tree appears under its final name in one rename, or not at all."""
    cache, name = os.path.split(tree)
    for entry in os.listdir(cache):  # under the lock, so nobody works on these
        if entry.startswith(name + ".partial"):
            say("clearing up after an interrupted set-up")
            shutil.rmtree(os.path.join(cache, entry))
    room = shutil.disk_usage(cache).free / 1e9
    if room < ROOM_GB[kind]:
        raise Stop("%s has %.1f GB free, the set-up takes %.1f GB: make room, or set OFB_CACHE to another folder"
                   % (cache, room, ROOM_GB[kind]))
    check_pip()
    partial = tempfile.mkdtemp(prefix=name + ".partial-", dir=cache)
    try:
        target, scratch = os.path.join(partial, "tree"), os.path.join(partial, "tmp")
        os.mkdir(scratch)
        pip(["--no-deps", "torch==" + VERSION], target, scratch, lock)
        if kind == "cpu":
            pip(["--no-deps"] + CPU_NEEDS, target, scratch, lock)
        else:
            pip(CUDA_NEEDS, target, scratch, lock)
        trim(target, kind)
        if not complete(target, kind):
            raise Stop("the wheel of torch %s is not as expected: %s" % (VERSION, OWN))
        if os.path.exists(tree):  # damaged, or we would not be here
            os.rename(tree, os.path.join(partial, "damaged"))
        os.rename(target, tree)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def main(arguments):
    if arguments not in ([], ["--plan"]):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if set(arguments) & {"-h", "--help"} else 2
    plan = bool(arguments)
    own = users_own()
    if own is not None:
        if plan:
            say("your own is used: " + (own or "the PyTorch of python3"))
        elif own:
            print(own)
        return 0
    check_machine()
    kind, reason = choose()
    cache = os.path.abspath(os.path.expanduser(os.environ.get("OFB_CACHE") or "~/.cache/once-for-both"))
    tree = os.path.join(cache, "libtorch-%s-%s" % (VERSION, kind))
    if plan:
        say("%s (%s) in %s: %s" % (kind, reason, tree, "is there" if complete(tree, kind) else "to be installed"))
        for need in ["torch==%s (no dependencies)" % VERSION] + (CPU_NEEDS if kind == "cpu" else CUDA_NEEDS):
            say("    " + need)
        return 0
    if not complete(tree, kind):
        os.makedirs(cache, exist_ok=True)
        with open(os.path.join(cache, ".lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another set-up is at work in %s: waiting for it" % cache)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete(tree, kind):  # it may have been made while we waited
                say("installing %s for %s (%s) into %s, once" % (VERSION, kind, reason, tree))
                try:
                    install(tree, kind, lock)
                except Stop as stop:
                    other = "cpu" if kind == "cuda" else "cuda"
                    if complete(tree[:-len(kind)] + other, other):
                        raise Stop("%s; or set OFB_CUDA=%d: the tree for %s is there"
                                   % (stop, other == "cuda", other), stop.said)
                    raise
                say("done")
    print(os.path.join(tree, "torch"))
    return 0


def terminated(number, _frame):
    raise SystemExit(128 + number)


if __name__ == "__main__":
    # Ended by a signal, the half of a tree is cleared up on the way out.
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGHUP, terminated)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except Stop as stop:
        say(str(stop))
        for line in stop.said:
            print("    " + line, file=sys.stderr)
    except OSError as error:
        place = os.environ.get("OFB_CACHE") or "~/.cache/once-for-both"
        say("%s (%s): OFB_CACHE can name another folder than %s" % (error.strerror or error, error.filename or "-", place))
    sys.exit(1)
