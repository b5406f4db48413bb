"""Lists libtorch's CUDA operators, from the headers that come with it.

`ATen/ops/X_cuda_dispatch.h` declares the C++ functions of an operator X that CUDA has a kernel for, without
the names of their overloads. `ATen/ops/X_ops.h` has these names, with the same argument types. `X_meta.h`
says which kernels are built on TensorIterator: those take a tensor of no dimension from the host as a
number, all others refuse it.
"""

import pathlib
import re

# Kernels without X_meta.h that take a number from the host.
TAKES_NUMBERS = re.compile(r"(where|masked_fill_|fill_|index|index_put_|_index_put_impl_|index_fill_|logical_\w+|rsub"
                           r"|floor_divide_?|bernoulli_|_foreach_\w+)(\..*)?|_fused_\w+\.tensor_lr")

DECLARATION = re.compile(r"^TORCH_API .*?(\w+)\((.*)\);$", re.MULTILINE)
OPERATOR = re.compile(r"using schema = .*?\((.*)\);\n(?:.*\n){1,3}?"
                      r'.* name = "aten::(\w+)";\n.* overload_name = "(\w*)";')
ITERATED = re.compile(r"struct .* : public TensorIteratorBase")


def without_names(arguments):
    """Argument types of a declaration: no names, no defaults, sizes as plain integers."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(arguments):
        depth += (letter in "<({") - (letter in ">)}")
        if letter == "," and depth == 0:
            parts.append(arguments[start:at])
            start = at + 1
    parts.append(arguments[start:])
    return tuple(one_type(part) for part in parts)


def one_type(argument):
    bare = re.sub(r"=.*$", "", argument).strip()
    bare = re.sub(r"(?<=[\w>&])\s+\w+$", "", bare) if not re.fullmatch(r"const [\w:]+ &", bare) else bare
    return bare.replace("c10::SymInt", "SymInt").replace("SymIntArrayRef", "IntArrayRef").replace("at::", "") \
        .replace("SymInt", "int64_t").replace(" ", "")


def overloads(text):
    """Full names of an X_ops.h by C++ name and argument types."""
    found = {}
    for types, name, overload in OPERATOR.findall(text):
        found[name, without_names(types)] = name + ("." + overload if overload else "")
    return found


def declared(text):
    """C++ names and argument types of an X_cuda_dispatch.h, as X_ops.h has them."""
    for name, arguments in DECLARATION.findall(text):
        name = re.sub(r"_symint$", "", name)
        yield re.sub(r"_outf$", "", name), without_names(arguments)


def read(include):
    """The operators with a CUDA kernel, and those of them that take numbers from the host."""
    folder = pathlib.Path(include, "ATen", "ops")
    cuda, numbers = set(), set()
    for path in sorted(folder.glob("*_cuda_dispatch.h")):
        root = path.name[:-len("_cuda_dispatch.h")]
        names = overloads((folder / (root + "_ops.h")).read_text())
        found = {names[key] for key in declared(path.read_text()) if key in names}
        meta = folder / (root + "_meta.h")
        iterated = meta.exists() and ITERATED.search(meta.read_text())
        cuda |= found
        numbers |= {name for name in found if TAKES_NUMBERS.fullmatch(name)
                    or iterated and not re.search(r"_backward\b", name)}
    return sorted(cuda), sorted(numbers)


def header(include):
    """The C++ header with both lists."""
    lists = zip(("kCudaOperators", "kTakesNumbers"), read(include))
    return "#pragma once\n" + "".join(
        "inline constexpr const char* %s[] = {\n%s};\n" % (name, "".join('    "%s",\n' % one for one in names))
        for name, names in lists)
