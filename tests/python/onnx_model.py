"""Compares the logits of model.onnx in onnxruntime with the expected ones."""

import os
import sys

import numpy
import onnxruntime

import cases

ROOT = sys.argv[1]


def array(entry):
    return cases.numbers(ROOT, entry, lambda data: numpy.frombuffer(data, dtype="<f4"))


def compare(case):
    path = os.path.join(ROOT, case["artifact"], "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = array(case["logits"])
    (logits,) = session.run(["logits"], {"images": array(case["images"])})
    assert logits.shape == expected.shape, (logits.shape, expected.shape)
    scale = float(abs(expected).max())
    other = cases.at_other_batch_sizes(
        lambda images: session.run(["logits"], {"images": images})[0], array(case["images"]), expected)
    return [("in f32", float(abs(logits - expected).max()), 1e-4 * scale),
            ("at other batch sizes", other, 1e-4 * scale)]


def load(folder):
    session = onnxruntime.InferenceSession(
        os.path.join(folder, "model.onnx"), providers=["CPUExecutionProvider"])

    def predict(shape):
        (logits,) = session.run(["logits"], {"images": numpy.zeros(shape, numpy.float32)})
        return list(logits.shape)

    return predict


onnxruntime.set_default_logger_severity(4)  # A refused shape is no error here.
print("ONNX: %d shapes of images are taken or refused as by the subnet" % cases.check_shapes(ROOT, load))
sys.exit(cases.run("ONNX in onnxruntime " + onnxruntime.__version__, ROOT, compare))
