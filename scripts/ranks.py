#!/usr/bin/env python3
"""Starts a program as several ranks of a group on this machine, as torchrun does, without torch.

    scripts/ranks.py 2 target/release/examples/deit_s --out runs/two

Each rank has its share of the cores. When one fails, the others are told to end, and the exit status is
that of the first that failed.
"""

import os
import signal
import socket
import subprocess
import sys
import time

GRACE = 30  # seconds between the request to end and the end


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(command, rank, ranks, port, address="127.0.0.1", local_rank=None):
    threads = max(1, len(os.sched_getaffinity(0)) // ranks)
    local = ranks if local_rank is None else 1
    own = {
        "LOCAL_WORLD_SIZE": local,
        "RANK": rank, "LOCAL_RANK": rank if local_rank is None else local_rank, "WORLD_SIZE": ranks,
        "MASTER_ADDR": address, "MASTER_PORT": port,
    }
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    environment.update((name, str(value)) for name, value in own.items())
    return subprocess.Popen(command, env=environment)


def wait(processes):
    """Waits for all; returns the status of the first that failed."""
    failed, deadline = 0, None
    while any(process.poll() is None for process in processes):
        statuses = [process.poll() for process in processes]
        if not failed and any(statuses):
            failed, deadline = next(filter(None, statuses)), time.monotonic() + GRACE
            for process in processes:
                if process.poll() is None:
                    process.terminate()
        if deadline and time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.05)
    return failed or next(filter(None, (process.returncode for process in processes)), 0)


def finish(processes):
    """Waits for all, and returns the exit status; a signal ends them first."""
    # Ctrl-C reaches the ranks too: they end by themselves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: [process.terminate() for process in processes])
    status = wait(processes)
    return status if status >= 0 else 128 - status


def main():
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        sys.exit(__doc__)
    ranks, port = int(sys.argv[1]), free_port()
    processes = [start(sys.argv[2:], rank, ranks, port) for rank in range(ranks)]
    sys.exit(finish(processes))


if __name__ == "__main__":
    main()
