#!/usr/bin/env python3
"""Makes sure libtorch is on this machine; prints the folder to put into LIBTORCH.

Its version is the one that the tch of Cargo.lock binds. The tree comes from the official PyTorch
wheel and lands in a cache folder, once: later runs only look, and need no network. Nothing outside
the cache is touched.

    OFB_CACHE   the cache folder (default ~/.cache/once-for-both)
    OFB_TCH     the tch to install for, such as 0.24 (default: that of Cargo.lock)
    OFB_CUDA    1: with CUDA, 0: CPU only (default: CUDA if an NVIDIA GPU is here)
    LIBTORCH, LIBTORCH_USE_PYTORCH
                your own libtorch: it wins, and nothing is installed

    --plan      print what would be installed, and install nothing
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

# What the wheel of torch asks for, without its Python side (triton, sympy, ...).
CUDA_TOOLKIT = "cuda-toolkit[cublas,cudart,cufft,cufile,cupti,curand,cusolver,cusparse,nvjitlink,nvrtc,nvtx]"
# Headers that the build needs for NCCL (feature distributed), besides those of the packages below.
NCCL_NEEDS = ["nvidia-cuda-crt==13.0.*", "nvidia-cuda-cccl==13.0.*"]

Torch = collections.namedtuple("Torch", ["version", "cuda_needs"])

# The one libtorch that each tch binds (TORCH_VERSION in torch-sys' build.rs), and the CUDA packages in
# Requires-Dist of that wheel. There is no tch 0.25.
TORCH_OF_TCH = {
    "0.24": Torch("2.11.0", [
        CUDA_TOOLKIT + "==13.0.2",
        *NCCL_NEEDS,
        "nvidia-cudnn-cu13==9.19.0.56",
        "nvidia-cusparselt-cu13==0.8.0",
        "nvidia-nccl-cu13==2.28.9",
        "nvidia-nvshmem-cu13==3.4.5",
    ]),
    "0.26": Torch("2.13.0", [
        CUDA_TOOLKIT + "==13.0.3",
        *NCCL_NEEDS,
        "nvidia-cudnn-cu13==9.20.0.48",
        "nvidia-cusparselt-cu13==0.8.1",
        "nvidia-nccl-cu13==2.29.7",
        "nvidia-nvshmem-cu13==3.4.5",
    ]),
}

# The wheel is the CUDA build. libtorch_cpu.so, too, is linked against these two.
CPU_NEEDS = ["nvidia-cuda-runtime==13.0.*", "nvidia-cuda-cupti==13.0.*"]

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

class Stop(Exception):
    """An error: one line that says what to do, and the failing tool's output, if any."""

    def __init__(self, line, said=()):
        super().__init__(line)
        self.said = said


def say(line):
    print("libtorch: " + line, file=sys.stderr, flush=True)


def tch():
    """Major and minor version of tch: OFB_TCH, or that of Cargo.lock, or the newest in the table."""
    wish = os.environ.get("OFB_TCH")
    if wish:
        return wish
    lock = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "Cargo.lock")
    with contextlib.suppress(OSError):
        with open(lock) as file:
            found = re.search(r'^name = "tch"\nversion = "(\d+\.\d+)\.', file.read(), re.MULTILINE)
        if found:
            return found.group(1)
    return max(TORCH_OF_TCH)


def bound_torch():
    """The libtorch that this tch binds."""
    version = tch()
    if version not in TORCH_OF_TCH:
        raise Stop("tch: got %s, expected one of %s; run `cargo update tch --precise VERSION`, or correct OFB_TCH"
                   % (version, ", ".join(sorted(TORCH_OF_TCH))))
    return TORCH_OF_TCH[version]


def own():
    return "set LIBTORCH to a libtorch %s, or LIBTORCH_USE_PYTORCH=1 to use the PyTorch of python3" % bound_torch().version


def users_own():
    """LIBTORCH as the user set it, "" for LIBTORCH_USE_PYTORCH, or None if neither is set."""
    if os.environ.get("LIBTORCH_USE_PYTORCH"):
        return ""  # torch-sys looks at this one first
    root = os.environ.get("LIBTORCH")
    if not root:
        return None
    lib = os.path.join(os.environ.get("LIBTORCH_LIB") or root, "lib")
    if not os.path.isdir(lib):
        raise Stop("LIBTORCH: got %s, expected a folder with %s in it; correct or unset it" % (root, lib))
    return root


def driver():
    """Major version of the NVIDIA driver: 0 if it is unknown, None if there is no driver."""
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
        raise Stop("OFB_CUDA: got %r, expected 1 (CUDA) or 0 (CPU only); correct or unset it" % wish)
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
        raise Stop("no automatic set-up on %s %s: %s" % (system, machine, own()))
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if name != "glibc" or numbers < GLIBC:
        raise Stop("the libtorch wheel runs on glibc 2.28 or newer, here is %s: %s"
                   % (" ".join((name, version)).strip() or "another C library", own()))


def complete(tree, kind):
    keys = KEY_FILES + (["torch/lib/libtorch_cuda.so"] if kind == "cuda" else [])
    return all(os.path.isfile(path) and os.path.getsize(path)
               for path in (os.path.join(tree, key) for key in keys))


def pip_environment(scratch):
    """The environment for pip: with the user's settings for package sources, and without those for the
    place of installation (user, prefix, require-virtualenv, ...), which conflict with --target."""
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
    """The cause of a failure, from pip's output, and what to do about it."""
    text = "\n".join(output)
    if re.search(r"No space left on device|Disk quota exceeded", text):
        return "the disk is full: make room, or set OFB_CACHE to a folder with more"
    if re.search(r"CERTIFICATE_VERIFY_FAILED|SSLError", text):
        return "the package index's certificate is not trusted here: see pip's option --cert"
    if re.search(r"NewConnectionError|NameResolutionError|Connect(ion)?(Timeout|Refused|Reset|ion broken)"
                 r"|ReadTimeout|ProxyError|Max retries|Network is unreachable|Name or service not known"
                 r"|IncompleteRead|ProtocolError|Connection aborted|\b(403|5\d\d) (Client|Server) Error", text):
        return "the package index cannot be reached: check the network (and PIP_INDEX_URL), or " + own()
    if re.search(r"No matching distribution", text):
        return "the package index does not have it or cannot be reached: check PIP_INDEX_URL and the like, or " + own()
    return "pip failed; " + own()


def pip(requirements, target, scratch, lock, wheel=WHEEL):
    # No pip cache: the tree is the cache, and the wheels would be kept a second time.
    command = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--no-compile", "--progress-bar", "off",
               "--only-binary", ":all:", "--target", target] + wheel + requirements
    last = collections.deque(maxlen=200)
    # pip inherits the lock: if this script is killed, the next one waits for the end of that pip before
    # it removes the partial tree.
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
    """Removes everything but libraries, headers and licences."""
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
        file.write(bound_torch().version + "\n")


def install(tree, kind, lock):
    """Installs a tree, which gets its final name by one rename when it is complete."""
    cache, name = os.path.split(tree)
    for entry in os.listdir(cache):  # under the lock, so nobody works on these
        if entry.startswith(name + ".partial"):
            say("removing the rest of an interrupted installation")
            shutil.rmtree(os.path.join(cache, entry))
    room = shutil.disk_usage(cache).free / 1e9
    if room < ROOM_GB[kind]:
        raise Stop("%s: got %.1f GB of free space, expected %.1f GB; free some, or set OFB_CACHE to another folder"
                   % (cache, room, ROOM_GB[kind]))
    check_pip()
    partial = tempfile.mkdtemp(prefix=name + ".partial-", dir=cache)
    try:
        target, scratch = os.path.join(partial, "tree"), os.path.join(partial, "tmp")
        os.mkdir(scratch)
        pip(["--no-deps", "torch==" + bound_torch().version], target, scratch, lock)
        if kind == "cpu":
            pip(["--no-deps"] + CPU_NEEDS, target, scratch, lock)
        else:
            pip(bound_torch().cuda_needs, target, scratch, lock)
        trim(target, kind)
        if not complete(target, kind):
            raise Stop("the wheel of torch %s is not as expected: %s" % (bound_torch().version, own()))
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
    root = users_own()
    if root is not None:
        if plan:
            say("your own is used: " + (root or "the PyTorch of python3"))
        elif root:
            print(root)
        return 0
    check_machine()
    kind, reason = choose()
    cache = os.path.abspath(os.path.expanduser(os.environ.get("OFB_CACHE") or "~/.cache/once-for-both"))
    tree = os.path.join(cache, "libtorch-%s-%s" % (bound_torch().version, kind))
    if plan:
        say("%s (%s) in %s: %s" % (kind, reason, tree, "is there" if complete(tree, kind) else "to be installed"))
        for need in ["torch==%s (no dependencies)" % bound_torch().version] + (CPU_NEEDS if kind == "cpu" else bound_torch().cuda_needs):
            say("    " + need)
        return 0
    if not complete(tree, kind):
        os.makedirs(cache, exist_ok=True)
        with open(os.path.join(cache, ".lock"), "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another installation in %s" % cache)
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete(tree, kind):  # it may have been made while we waited
                say("installing %s for %s (%s) into %s, once" % (bound_torch().version, kind, reason, tree))
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


def run(main, failed, advice=""):
    """Ends the program with what `main` returns, or, after saying why, with the status `failed`."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Stop as stop:
        say(str(stop))
        for line in stop.said:
            print("    " + line, file=sys.stderr)
    except OSError as error:
        say("%s (%s)%s" % (error.strerror or error, error.filename or "-", advice))
    sys.exit(failed)


def terminated(number, _frame):
    raise SystemExit(128 + number)


if __name__ == "__main__":
    # Makes `finally` remove the partial tree when a signal ends this script.
    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGHUP, terminated)
    place = os.environ.get("OFB_CACHE") or "~/.cache/once-for-both"
    run(lambda: main(sys.argv[1:]), 1, ": OFB_CACHE can name another folder than " + place)
