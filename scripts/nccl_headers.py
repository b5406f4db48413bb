#!/usr/bin/env python3
"""Makes sure that headers of NCCL and CUDA are on this machine, to compile the NCCL part of the feature
`distributed` without a CUDA card.

Prints, one a line: the folders with headers, separated by colons; the folder with libtorch_cuda.so.
The headers land in the cache, once: the download is 0.2 GB, because NCCL's wheel holds its library, too.
Ends with status 75 where they cannot be had: no network, or a machine the wheels are not for.

    OFB_CACHE    the cache folder (default ~/.cache/once-for-both)
"""

import os
import shutil

import libtorch
import python_env

CUDA = ["nvidia-cuda-runtime==13.0.*", "nvidia-cuda-crt==13.0.*", "nvidia-cuda-cccl==13.0.*"]

# Of these libraries torch's headers name types, whose wheels take a gigabyte: declared here instead.
DECLARED = {
    "cublas_v2.h": "typedef struct cublasContext* cublasHandle_t; typedef enum { CUBLAS_STATUS_SUCCESS } cublasStatus_t;",
    "cublasLt.h": "typedef struct cublasLtContext* cublasLtHandle_t;",
    "cusparse.h": "typedef struct cusparseContext* cusparseHandle_t; typedef enum { CUSPARSE_STATUS_SUCCESS } cusparseStatus_t;",
    "cusolver_common.h": "typedef enum { CUSOLVER_STATUS_SUCCESS } cusolverStatus_t;",
    "cusolverDn.h": "#include <cusolver_common.h>\ntypedef struct cusolverDnContext* cusolverDnHandle_t;",
}


def install_headers(cache):
    """The folder with all headers."""
    needs = [need for need in libtorch.bound_torch().cuda_needs if need.startswith("nvidia-nccl-")] + CUDA

    def fill(tree, pip):
        """headers of NCCL and CUDA"""
        wheels = os.path.join(os.path.dirname(tree), "wheels")
        pip(needs, wheels, libtorch.WHEEL)
        os.makedirs(tree)
        for part in ("nccl", "cu13"):
            shutil.copytree(os.path.join(wheels, "nvidia", part, "include"), os.path.join(tree, part))
        declared = os.path.join(tree, "declared")
        os.makedirs(declared)
        for name, text in DECLARED.items():
            with open(os.path.join(declared, name), "w") as file:
                file.write("#pragma once\n" + text + "\n")

    folder = os.path.join(cache, "nccl-headers-" + libtorch.bound_torch().version)
    python_env.install(folder, 1, fill)
    return folder


def main():
    libtorch.check_machine()
    path, version = python_env.python()
    cache = os.path.abspath(os.path.expanduser(os.environ.get("OFB_CACHE") or "~/.cache/once-for-both"))
    headers = install_headers(cache)
    networks = python_env.install_networks(cache, path, version)
    print(":".join(os.path.join(headers, part) for part in ("nccl", "cu13", "declared")))
    print(os.path.join(networks, "torch", "torch", "lib"))
    return 0


if __name__ == "__main__":
    libtorch.run(main, python_env.CANNOT)
