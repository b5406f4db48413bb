"""TensorBoard shows the scalars that were written, each step once, though the run was resumed."""

import json
import logging
import os
import sys

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    # Only with a Python of one's own (OFB_PYTHON).
    print("event files: SKIPPED, this Python has no tensorboard", file=sys.stderr)
    sys.exit(0)

# It tells of every restart, and this run has one.
logging.getLogger("tensorboard").setLevel(logging.ERROR)

FOLDER = os.path.join(sys.argv[1], "events")


def expected():
    """By tag, step and value, from the events themselves."""
    scalars = {}
    with open(os.path.join(FOLDER, "expected.json")) as file:
        events = [event for event in json.load(file) if event["event"] == "step"]
    for event in events:
        values = {"loss/" + name: value for name, value in event["loss"].items()}
        values["macs/expected"], values["macs/active"] = event["macs_expected"], event["macs_current"]
        values.update((name, event[name]) for name in ("lambda", "mask_ratio", "lr", "step_ms"))
        for name, dimension in event.get("dimensions", {}).items():
            values["entropy/" + name] = dimension["entropy"]
            values["expected/" + name] = dimension["expected"]
        for tag, value in values.items():
            scalars.setdefault(tag, []).append((event["step"], value))
    return scalars


def main():
    board = EventAccumulator(FOLDER, size_guidance={"scalars": 0})
    board.Reload()
    wanted, tags = expected(), set(board.Tags()["scalars"])
    assert tags == set(wanted) and len(tags) > 15, tags ^ set(wanted)
    for tag, points in wanted.items():
        found = [(point.step, point.value) for point in board.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _ in points], (tag, found)
        for (step, value), (_, exact) in zip(found, points):
            assert abs(value - exact) <= 1e-6 * abs(exact), (tag, step, value, exact)
    print("event files: TensorBoard shows %d scalars as they were written" % len(tags))


main()
