#!/usr/bin/env python3
"""Makes sure the packages of the tests in tests/python are on this machine.

Prints, one a line: the Python to run them with, the folder with torch, the folder with onnxruntime,
the folders with TensorBoard, and those with timm. Each has that package alone, for PYTHONPATH; they
land in the cache, once.
Ends with status 75 where they cannot be had: no network, or a machine the wheels are not for.

    OFB_CACHE    the cache folder (default ~/.cache/once-for-both)
    OFB_PYTHON   a Python of your own that has torch, numpy, onnxruntime and perhaps tensorboard and timm:
                 nothing is installed
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
TORCH_NEEDS = ["typing-extensions==4.15.0"]
ONNX = ["onnxruntime==1.23.2", "numpy==2.2.6"]
# Reading event files needs neither its server nor its plugins; numpy is there already.
BOARD = ["tensorboard==2.21.0", "protobuf==6.33.5", "absl-py==2.3.1"]
# What importing timm needs besides torch and numpy: torchvision imports the compiler of torch, and that sympy.
TIMM = ["timm==1.0.31", "pillow==12.3.0", "pyyaml==6.0.3", "sympy==1.14.0", "mpmath==1.3.0"]
TORCHVISION = {"2.11.0": "torchvision==0.26.0", "2.13.0": "torchvision==0.28.0"}  # by version of torch
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


def install(folder, gigabytes, fill):
    """What `fill` puts into a folder appears in one rename, or not at all."""
    cache, name = os.path.split(folder)
    if os.path.isdir(folder):
        return
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(folder):  # it may have been made while we waited
            return
        libtorch.say("installing %s into %s, once" % (fill.__doc__, folder))
        for entry in os.listdir(cache):
            if entry.startswith(name + ".partial"):
                shutil.rmtree(os.path.join(cache, entry))
        room = shutil.disk_usage(cache).free / 1e9
        if room < gigabytes:
            raise Stop("%s has %.1f GB free, the Python packages take %.1f GB" % (cache, room, gigabytes))
        libtorch.check_pip()
        partial = tempfile.mkdtemp(prefix=name + ".partial-", dir=cache)
        try:
            tree, scratch = os.path.join(partial, "tree"), os.path.join(partial, "tmp")
            os.makedirs(scratch)
            fill(tree, lambda packages, target, wheel: libtorch.pip(["--no-deps"] + packages, target, scratch,
                                                                    lock, wheel))
            os.rename(tree, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        libtorch.say("done")


def install_networks(cache, path, version):
    """The folder with torch and onnxruntime."""
    wheel = ["--implementation", "cp", "--python-version", version, "--abi", "cp" + version.replace(".", ""),
             "--abi", "none"]

    torch_version = libtorch.bound_torch().version

    def fill(tree, pip):
        """torch and onnxruntime"""
        torch, onnx = os.path.join(tree, "torch"), os.path.join(tree, "onnx")
        pip(["torch==" + torch_version] + TORCH_NEEDS + libtorch.CPU_NEEDS, torch, wheel)
        pip(ONNX, onnx, wheel)
        stand_in(os.path.join(torch, "nvidia", "cu13", "lib"))
        for unused in ("include", "share"):
            shutil.rmtree(os.path.join(torch, "torch", unused), ignore_errors=True)
        check(path, torch, "torch")
        check(path, onnx, "onnxruntime")

    folder = os.path.join(cache, "python-%s-torch-%s" % (version, torch_version))
    install(folder, ROOM_GB, fill)
    return folder


def install_board(cache, path, version, numpy):
    """The folder with TensorBoard, beside that of numpy."""
    def fill(tree, pip):
        """TensorBoard"""
        # What is in Python alone runs everywhere.
        pip(BOARD, tree, ["--implementation", "py", "--python-version", version, "--abi", "none",
                          "--platform", "any"])
        check(path, tree + os.pathsep + numpy, "tensorboard.backend.event_processing.event_accumulator")

    folder = os.path.join(cache, "python-%s-%s" % (version, BOARD[0].replace("==", "-")))
    install(folder, 0.1, fill)
    return folder


def install_timm(cache, path, version, networks):
    """The folder with timm, beside those of torch and numpy."""
    torch_version = libtorch.bound_torch().version
    wheel = ["--implementation", "cp", "--python-version", version, "--abi", "cp" + version.replace(".", ""),
             "--abi", "none"]

    def fill(tree, pip):
        """timm and torchvision"""
        pip(TIMM + [TORCHVISION[torch_version]], tree, wheel)
        check(path, os.pathsep.join([tree] + networks), "timm")

    name = "python-%s-%s-torch-%s" % (version, TIMM[0].replace("==", "-"), torch_version)
    install(os.path.join(cache, name), 0.3, fill)
    return os.path.join(cache, name)


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
    networks = install_networks(cache, path, version)
    numpy = os.path.join(networks, "onnx")
    board = install_board(cache, path, version, numpy)
    torch = os.path.join(networks, "torch")
    timm = install_timm(cache, path, version, [torch, numpy])
    print("\n".join([path, torch, numpy, board + os.pathsep + numpy, os.pathsep.join([timm, torch, numpy])]))
    return 0


if __name__ == "__main__":
    libtorch.run(main, CANNOT)
