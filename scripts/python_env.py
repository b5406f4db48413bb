#!/usr/bin/env python3
"""Makes sure the packages of the tests in tests/python are on this machine.

Prints, one a line: the Python to run them with, the folder with torch, and the folder with
onnxruntime. Each folder has that package alone, for PYTHONPATH; they land in the cache, once.
Ends with status 75 where they cannot be had: no network, or a machine the wheels are not for.

    OFB_CACHE    the cache folder (default ~/.cache/once-for-both)
    OFB_PYTHON   a Python of your own that has torch, numpy and onnxruntime: nothing is installed
"""

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import tempfile

import libtorch
from libtorch import Stop

CANNOT = 75  # EX_TEMPFAIL

# Without dependencies: loading and running a model needs no more than these.
TORCH = ["torch==" + libtorch.VERSION, "typing-extensions==4.15.0"]
ONNX = ["onnxruntime==1.23.2", "numpy==2.2.6"]
PYTHONS = ["3.%d" % minor for minor in (10, 11, 12, 13)]  # both have wheels for these

# torch's wheel on PyPI is the CUDA build, and its libraries name these. None of their functions is
# ever called on a CPU, so empty libraries will do, and gigabytes stay where they are.
UNUSED = [
    "libcublas.so.13", "libcublasLt.so.13", "libcudnn.so.9", "libcufft.so.12", "libcufile.so.0",
    "libcurand.so.10", "libcusparse.so.12", "libcusparseLt.so.0", "libnccl.so.2",
    "libnvrtc.so.13", "libnvshmem_host.so.3",
]
ROOM_GB = 2.5


def python():
    """A Python the wheels are for, and its version."""
    for name in [sys.executable] + ["python" + version for version in reversed(PYTHONS)]:
        path = shutil.which(name)
        if not path:
            continue
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        found = subprocess.run([path, "-c", ask], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               universal_newlines=True)
        if found.returncode == 0 and found.stdout.strip() in PYTHONS:
            return path, found.stdout.strip()
    raise Stop("no Python from %s to %s here: set OFB_PYTHON to one that has torch, numpy and onnxruntime"
               % (PYTHONS[0], PYTHONS[-1]))


def install(folder, path, version, lock):
    """Both folders appear in one rename, or not at all."""
    cache, name = os.path.split(folder)
    for entry in os.listdir(cache):
        if entry.startswith(name + ".partial"):
            shutil.rmtree(os.path.join(cache, entry))
    room = shutil.disk_usage(cache).free / 1e9
    if room < ROOM_GB:
        raise Stop("%s has %.1f GB free, the Python packages take %.1f GB" % (cache, room, ROOM_GB))
    libtorch.check_pip()
    wheel = ["--implementation", "cp", "--python-version", version, "--abi", "cp" + version.replace(".", ""),
             "--abi", "none"]
    partial = tempfile.mkdtemp(prefix=name + ".partial-", dir=cache)
    try:
        tree, scratch = os.path.join(partial, "tree"), os.path.join(partial, "tmp")
        torch, onnx = os.path.join(tree, "torch"), os.path.join(tree, "onnx")
        os.makedirs(scratch)
        libtorch.pip(["--no-deps"] + TORCH + libtorch.CPU_NEEDS, torch, scratch, lock, wheel)
        libtorch.pip(["--no-deps"] + ONNX, onnx, scratch, lock, wheel)
        stand_in(os.path.join(torch, "nvidia", "cu13", "lib"))
        for unused in ("include", "share"):
            shutil.rmtree(os.path.join(torch, "torch", unused), ignore_errors=True)
        check(path, torch, "torch")
        check(path, onnx, "onnxruntime")
        os.rename(tree, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check(path, folder, package):
    """The package can be imported, with functions looked up when they are called."""
    code = "import os, sys; sys.setdlopenflags(os.RTLD_LAZY); import " + package
    found = subprocess.run([path, "-S", "-s", "-c", code], env=dict(os.environ, PYTHONPATH=folder),
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if found.returncode:
        raise Stop("the wheel of %s is not as expected" % package, found.stdout.splitlines()[-6:])


def stand_in(folder):
    """Empty libraries under the names of those that are not called."""
    compiler = shlex.split(os.environ.get("CXX") or "c++")
    for name in UNUSED:
        command = compiler + ["-shared", "-x", "c++", os.devnull, "-o", os.path.join(folder, name),
                              "-Wl,-soname," + name]
        made = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True)
        if made.returncode:
            raise Stop("%s cannot make a shared library" % compiler[0], made.stdout.splitlines()[-6:])


def main():
    own = os.environ.get("OFB_PYTHON")
    if own:
        print(own)
        return 0
    libtorch.check_machine()
    path, version = python()
    cache = os.path.abspath(os.path.expanduser(os.environ.get("OFB_CACHE") or "~/.cache/once-for-both"))
    folder = os.path.join(cache, "python-%s-torch-%s" % (version, libtorch.VERSION))
    if not os.path.isdir(folder):
        os.makedirs(cache, exist_ok=True)
        with open(os.path.join(cache, ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.isdir(folder):  # it may have been made while we waited
                libtorch.say("installing Python's torch and onnxruntime for the tests into %s, once" % folder)
                install(folder, path, version, lock)
                libtorch.say("done")
    print("\n".join([path, os.path.join(folder, "torch"), os.path.join(folder, "onnx")]))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Stop as stop:
        libtorch.say(str(stop))
        for line in stop.said:
            print("    " + line, file=sys.stderr)
    except OSError as error:
        libtorch.say("%s (%s)" % (error.strerror or error, error.filename or "-"))
    sys.exit(CANNOT)
