"""Tiny ONNX models whose answers are known by construction."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def save(path, nodes, input_shape, outputs, constants=(), metadata=(), kind=TensorProto.FLOAT):
    """A model from nodes; `outputs` are names, `constants` pairs of name and array."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", kind, input_shape)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return path


def constant(path, outputs, size=(64, 48), layout="nchw", metadata=()):
    """A model that answers with the same arrays for every image of a width and height."""
    width, height = size
    shape = (1, 3, height, width) if layout == "nchw" else (1, height, width, 3)
    nodes = [helper.make_node("Identity", [f"values_{name}"], [name]) for name in outputs]
    constants = [(f"values_{name}", np.asarray(values, np.float32)) for name, values in outputs.items()]
    return save(path, nodes, shape, list(outputs), constants, metadata)


STRIDE = 4  # of the heat-maps of `blob`
OFFSETS = [(1 + joint % 5 - 3, joint // 5 - 2) for joint in range(17)]  # x and y in cells, of each joint from the blob


def blob(path, size=(96, 128), head="heatmap", layout="nchw", order=range(17), scale=1.0, open_size=False):
    """A pose network: the joints are at fixed offsets from the brightest spot of the first colour.

    Args:
        path: to write.
        size: width and height of the input.
        head: `heatmap`, with a cell for `STRIDE` pixels, or `simcc`, with two bins for a pixel.
        layout: of the input.
        order: of the joints in the output.
        scale: of the values that it expects: the answer is right for any, its confidence is the brightness times it.
        open_size: whether the file leaves the size of the input open.
    """
    width, height = size
    kernel = np.zeros((17, 3, 9, 9), np.float32)
    for row, joint in enumerate(order):
        x, y = OFFSETS[joint]
        kernel[row, 0, 4 - y, 4 - x] = scale
    constants, nodes, source = [("kernel", kernel)], [], "image"
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]))
        source = "turned"
    nodes += [
        helper.make_node("AveragePool", [source], ["cells"], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2),
        helper.make_node("Conv", ["cells", "kernel"], ["maps"], pads=[4] * 4),
    ]
    names = ["maps"]
    if head == "simcc":
        names = ["simcc_x", "simcc_y"]
        for name, axis in zip(names, (2, 3), strict=True):
            length = size[axis == 3] * 2
            constants.append((f"spread_{name}", _spread(length // (2 * STRIDE), length)))
            nodes += [
                helper.make_node("ReduceMax", ["maps"], [f"along_{name}"], axes=[axis], keepdims=0),
                helper.make_node("MatMul", [f"along_{name}", f"spread_{name}"], [name]),
            ]
    if open_size:
        width = height = None
    shape = [1, 3, height, width] if layout == "nchw" else [1, height, width, 3]
    return save(path, nodes, shape, names, constants)


def _spread(cells, bins):
    """(cells, bins): a bin in the middle of each cell."""
    matrix = np.zeros((cells, bins), np.float32)
    matrix[np.arange(cells), np.arange(cells) * (bins // cells) + bins // cells // 2] = 1.0
    return matrix
