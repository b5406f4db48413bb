#!/usr/bin/env python3
"""Builds the simulated CUDA device (tests/simulated_cuda), once; prints the folder for LD_LIBRARY_PATH.

A program that finds libtorch in this folder has a CUDA device on a machine without one. The folder has
links to the libraries of libtorch, and lands in its cache beside it. Ends with status 75 where the device
cannot be had: it is for a CPU-only libtorch on 64-bit x86 Linux, and needs a C++ compiler.

    LIBTORCH    the libtorch to build for (scripts/with-libtorch sets it)
    CXX         the compiler (default c++)
    OFB_CACHE   the cache folder (default ~/.cache/once-for-both)
"""

import concurrent.futures
import fcntl
import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

CANNOT = 75  # EX_TEMPFAIL

SOURCE = pathlib.Path(__file__).resolve().parent.parent / "tests" / "simulated_cuda"
sys.path.insert(0, str(SOURCE))
sys.dont_write_bytecode = True
import operators  # noqa: E402

COMPILE = ["-std=c++20", "-O1", "-fPIC", "-fvisibility-inlines-hidden", "-w"]
# Its names are found by libtorch's own name for the library with the CUDA kernels.
LIBRARY = "libtorch_cuda.so"
MONTH = 30 * 24 * 3600


class Cannot(Exception):
    """Why there is no simulated device here, and what to do about it."""


def say(line):
    print("simulated CUDA device: " + line, file=sys.stderr, flush=True)


def libtorch():
    """The folder of the libtorch to build for."""
    root = pathlib.Path(os.environ.get("LIBTORCH") or "")
    if not os.environ.get("LIBTORCH"):
        raise Cannot("LIBTORCH is not set: run scripts/with-libtorch scripts/simulated_cuda.py")
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "amd64"):
        raise Cannot("system: got %s %s, expected Linux x86_64" % (platform.system(), platform.machine()))
    if (root / "lib" / LIBRARY).exists():
        raise Cannot("%s: got a libtorch with CUDA, expected one without; OFB_CUDA=0 chooses it" % root)
    if not (root / "include" / "ATen" / "ops" / "add_cuda_dispatch.h").is_file():
        raise Cannot("%s: got no include/ATen/ops/add_cuda_dispatch.h, expected the headers of libtorch" % root)
    return root


def compiler():
    command = shlex.split(os.environ.get("CXX") or "c++")
    if not shutil.which(command[0]):
        raise Cannot("C++ compiler: got no %s, expected one; install g++ or set CXX" % command[0])
    tried = subprocess.run(command + COMPILE + ["-fsyntax-only", "-x", "c++", os.devnull],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if tried.returncode:
        raise Cannot("C++ compiler: got %s, expected one that knows C++20; install a newer g++ or set CXX" % command[0])
    return command


def key(root, command):
    """Changes with the source, libtorch and the compiler's command."""
    version = root / "build-version"
    digest = hashlib.sha256()
    for part in [str(root), version.read_text() if version.is_file() else "", repr(command + COMPILE)]:
        digest.update(part.encode())
    for path in sorted(SOURCE.iterdir()) + [pathlib.Path(__file__)]:
        if path.suffix in (".cpp", ".h", ".py"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode:
        raise SystemExit("simulated CUDA device: %s failed:\n%s" % (" ".join(command), done.stdout))


def compile_device(root, command, library, scratch):
    (scratch / "operators.inc").write_text(operators.header(root / "include"))
    include = ["-I%s" % folder for folder in (scratch, root / "include", root / "include/torch/csrc/api/include")]

    def one(source):
        target = scratch / (source.stem + ".o")
        run(command + COMPILE + include + ["-c", str(source), "-o", str(target)])
        return str(target)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(one, sorted(SOURCE.glob("*.cpp"))))
    run(command + ["-shared", "-o", str(library)] + objects
        + ["-L%s" % library.parent, "-ltorch_cpu", "-lc10", "-ldl"])


def fill(folder, root, command):
    """The libraries as libtorch looks for them: its own by hard links (a symbolic link would lead the
    program back to where there is no device), those of NVIDIA beside them."""
    lib = folder / "torch" / "lib"
    lib.mkdir(parents=True)
    for path in (root / "lib").iterdir():
        if ".so" in path.name and path.is_file():
            os.link(path, lib / path.name)
    if (root.parent / "nvidia").is_dir():
        os.symlink(root.parent / "nvidia", folder / "nvidia")
    scratch = folder / "scratch"
    scratch.mkdir()
    compile_device(root, command, lib / LIBRARY, scratch)
    shutil.rmtree(scratch)


def remove_old(cache):
    """What was interrupted (under the lock, so nobody works on it), and what was built a month ago: of libtorch
    it has links alone, so a few more cost nothing."""
    for entry in cache.glob("simulated-cuda-*"):
        if ".partial" in entry.name or time.time() - entry.stat().st_mtime > MONTH:
            shutil.rmtree(entry, ignore_errors=True)


def build(root, command):
    # Hard links do not cross file systems: the folder is where libtorch is, if it is in the cache.
    cache = pathlib.Path(os.path.expanduser(os.environ.get("OFB_CACHE") or "~/.cache/once-for-both")).resolve()
    folder = cache / ("simulated-cuda-" + key(root, command))
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / ".simulated-cuda.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.is_dir():
            os.utime(folder)  # In use: remove_old of another checkout keeps it.
        else:
            say("compiling it into %s, once" % folder)
            remove_old(cache)
            partial = pathlib.Path(tempfile.mkdtemp(prefix=folder.name + ".partial-", dir=str(cache)))
            try:
                fill(partial, root, command)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return folder / "torch" / "lib"


def main():
    try:
        print(build(libtorch(), compiler()))
    except Cannot as why:
        say(str(why))
        return CANNOT
    except OSError as error:
        say("%s (%s); OFB_CACHE can name a folder on the file system of libtorch" % (error.strerror, error.filename))
        return CANNOT
    return 0


if __name__ == "__main__":
    sys.exit(main())
