#!/usr/bin/env python3
"""Checks that no package in Cargo.lock needs a newer Rust than Cargo.toml's rust-version."""

import json
import re
import subprocess
import sys


def numbers(version):
    return tuple(int(part) for part in version.split(".")) + (0,) * (2 - version.count("."))


def main():
    host = re.search(r"^host: (.*)$", subprocess.check_output(["rustc", "-vV"]).decode(), re.MULTILINE).group(1)
    command = ["cargo", "metadata", "--format-version", "1", "--features", "pipeline,proptest,hub", "--filter-platform", host]
    found = subprocess.run(command, stdout=subprocess.PIPE)
    if found.returncode:
        return found.returncode
    packages = json.loads(found.stdout)["packages"]
    ours = next(package for package in packages if package["source"] is None)
    newer = [package for package in packages
             if package["rust_version"] and numbers(package["rust_version"]) > numbers(ours["rust_version"])]
    for package in newer:
        print("%s %s: needs Rust %s, expected at most %s (rust-version in Cargo.toml); use an older version of it"
              % (package["name"], package["version"], package["rust_version"], ours["rust_version"]), file=sys.stderr)
    return 1 if newer else 0


if __name__ == "__main__":
    sys.exit(main())
