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
    return [("in f32", float(abs(logits - expected).max()), 1e-4 * scale)]


sys.exit(cases.run("ONNX in onnxruntime " + onnxruntime.__version__, ROOT, compare))
