"""Test cases written by Rust: artifacts, images, and their logits."""

import json
import os


BATCHES = (0, 1, 7, 64)


def read(root):
    with open(os.path.join(root, "cases.json")) as file:
        return json.load(file)


def numbers(root, entry, from_buffer):
    """Returns an f32 tensor or array of a file, made by `from_buffer`."""
    with open(os.path.join(root, entry["file"]), "rb") as file:
        return from_buffer(bytearray(file.read())).reshape(entry["shape"])


def check_shapes(root, load):
    """Checks that `load(folder)` takes and refuses the shapes of images that the subnet does; returns
    how many there are."""
    with open(os.path.join(root, "shapes.json")) as file:
        entries = json.load(file)
    for entry in entries:
        predict = load(os.path.join(root, entry["artifact"]))
        try:
            found = predict(entry["images"])
        except Exception:  # Each runtime has its own.
            found = None
        assert found == entry["logits"], (entry, found)
    return len(entries)


def at_other_batch_sizes(predict, images, expected, batches=BATCHES):
    """Returns the largest difference from the expected logits at several batch sizes; images are repeated."""
    worst = 0.0
    for batch in batches:
        chosen = [at % len(images) for at in range(batch)]
        logits = predict(images[chosen])
        assert logits.shape == (batch, *expected.shape[1:]), (batch, logits.shape)
        if batch:
            difference = float(abs(logits - expected[chosen]).max())
            # Not max(): it drops a NaN.
            worst = worst if difference <= worst else difference
    return worst


def run(what, root, compare):
    """Calls `compare(case)` for every case: a list of (name, difference, allowed)."""
    passed, failed, worst = 0, 0, {}
    for case in read(root):
        for name, difference, allowed in compare(case):
            label = "%s batch %d, %s" % (case["artifact"], case["batch"], name)
            # A NaN fails this comparison.
            if difference <= allowed:
                passed += 1
            else:
                failed += 1
                print("FAILED %s: differs by %.2e, allowed %.2e" % (label, difference, allowed))
            worst[name] = max(worst.get(name, 0.0), difference / allowed)
    for name, share in worst.items():
        print("%s, %s: largest difference is %.1e of the allowed one" % (what, name, share))
    print("python: %d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0
