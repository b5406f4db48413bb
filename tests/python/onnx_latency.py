"""Measures model.onnx of artifacts in onnxruntime and in OpenVINO, alternately, and compares their logits.

    pip install onnxruntime==1.23.2 openvino==2026.4.1
    python tests/python/onnx_latency.py [--batch 1] [--runs 30] [--threads 1] ARTIFACT ...

Prints the median latency of a batch in milliseconds, with quartiles, and the median of its CPU time, which
tells more on a machine that does something else, too.
"""

import argparse
import json
import os
import time

import numpy
import onnxruntime
import openvino


def in_onnxruntime(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def in_openvino(path, threads):
    # As the file is: in f32, also on a CPU that computes bf16 faster.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda images: model({"images": images})["logits"]


def compare(folder, images_of, batches):
    """Checks that both give the same logits at every batch size, 0 included."""
    path = os.path.join(folder, "model.onnx")
    first, second = in_onnxruntime(path, 0), in_openvino(path, 0)
    for batch in batches:
        expected, found = first(images_of(batch)), second(images_of(batch))
        assert expected.shape == found.shape, (folder, expected.shape, found.shape)
        if batch:
            difference = abs(expected - found).max() / abs(expected).max()
            assert difference <= 1e-4, (folder, batch, difference)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("artifacts", nargs="+")
    given = parser.parse_args()
    measured = {}
    for folder in given.artifacts:
        with open(os.path.join(folder, "config.json")) as file:
            config = json.load(file)
        network = config["architecture"]
        shape = [network["in_channels"], network["image_size"], network.get("image_width") or network["image_size"]]

        def images_of(batch, shape=tuple(shape)):
            return numpy.random.default_rng(0).standard_normal((batch, *shape), dtype=numpy.float32)

        compare(folder, images_of, (0, 1, 7, 64))
        path = os.path.join(folder, "model.onnx")
        for name, runtime in [("onnxruntime", in_onnxruntime), ("OpenVINO", in_openvino)]:
            measured[folder, name] = (runtime(path, given.threads), images_of(given.batch), config["macs"], [])
    for run in range(given.runs + 3):
        for predict, images, _, times in measured.values():
            start, cpu = time.perf_counter(), time.process_time()
            predict(images)
            if run >= 3:
                times.append((1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - cpu)))
    for (folder, name), (_, _, macs, times) in measured.items():
        wall, cpu = zip(*times)
        low, median, high = numpy.percentile(wall, [25, 50, 75])
        print("%s, %.2f GMACs, %s: %.1f ms (%.1f to %.1f); CPU time %.1f ms"
              % (folder, macs / 1e9, name, median, low, high, numpy.median(cpu)))


main()
