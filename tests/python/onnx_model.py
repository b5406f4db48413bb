"""Compares the logits of model.onnx with the expected ones: in onnxruntime, and in OpenVINO where there is one."""

import os
import sys

import numpy
import onnxruntime

import cases

try:
    import openvino
except ImportError:
    # Only a Python of one's own (OFB_PYTHON) may have it.
    openvino = None

ROOT = sys.argv[1]


def array(entry):
    return cases.numbers(ROOT, entry, lambda data: numpy.frombuffer(data, dtype="<f4"))


def in_onnxruntime(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"images": images})[0]


def in_openvino(path):
    # Some CPUs compute in bf16 by default.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: model({"images": images})["logits"]


RUNTIMES = {"onnxruntime": in_onnxruntime}
if openvino:
    RUNTIMES["OpenVINO"] = in_openvino


def compare(case):
    path, results = os.path.join(ROOT, case["artifact"], "model.onnx"), []
    images, expected = array(case["images"]), array(case["logits"])
    allowed = 1e-4 * float(abs(expected).max())
    for name, runtime in RUNTIMES.items():
        predict = runtime(path)
        logits = predict(images)
        assert logits.shape == expected.shape, (name, logits.shape, expected.shape)
        results.append(("in " + name, float(abs(logits - expected).max()), allowed))
        other = cases.at_other_batch_sizes(predict, images, expected)
        results.append(("in %s at other batch sizes" % name, other, allowed))
    return results


def load(folder):
    predict = in_onnxruntime(os.path.join(folder, "model.onnx"))
    return lambda shape: list(predict(numpy.zeros(shape, numpy.float32)).shape)


onnxruntime.set_default_logger_severity(4)  # A refused shape is no error here.
print("ONNX: %d shapes of images are taken or refused as by the subnet" % cases.check_shapes(ROOT, load))
sys.exit(cases.run("ONNX, onnxruntime " + onnxruntime.__version__, ROOT, compare))
