"""Checks that TensorBoard reads the written scalars, each step once, also of a resumed run."""

import json
import logging
import os
import sys

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    # Possible only with OFB_PYTHON.
    print("event files: SKIPPED, this Python has no tensorboard", file=sys.stderr)
    sys.exit(0)

# It warns of restarts; this run has one.
logging.getLogger("tensorboard").setLevel(logging.ERROR)

FOLDER = os.path.join(sys.argv[1], "events")


def expected():
    """Scalars of the events: a list of (step, value) for each tag."""
    scalars = {}
    with open(os.path.join(FOLDER, "expected.json")) as file:
        events = [event for event in json.load(file) if event["event"] == "step"]
    for event in events:
        values = {"loss/" + name: value for name, value in event["loss"].items()}
        values["macs/expected"] = event["macs_expected"]
        values["macs/current"] = event["macs_current"]
        values.update((name, event[name]) for name in ("lambda", "mask_ratio", "lr", "step_ms"))
        for name, dimension in event.get("dimensions", {}).items():
            values["entropy/" + name] = dimension["entropy"]
            values["expected_size/" + name] = dimension["expected"]
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
    print("event files: TensorBoard reads %d tags with the written values" % len(tags))


main()
