"""What could make an engine read a file or load a library is refused, wherever in a model it hides."""

import pytest

from nas.errors import MeasureError
from nas.measure.received import received_onnx

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402


def tensor(name="w", external=False):
    out = helper.make_tensor(name, TensorProto.FLOAT, [1], [0.0])
    if external:
        out.ClearField("float_data")
        out.data_location = TensorProto.EXTERNAL
        entry = out.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
    return out


def model(nodes=None, initializer=(), shape=(1, 3), inputs=("x",), functions=()):
    nodes = nodes or [helper.make_node("Relu", ["x"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in inputs]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "g", values, [out], initializer=initializer)
    return helper.make_model(graph, functions=list(functions)).SerializeToString()


def branch(*nodes, initializer=()):
    """The nodes inside a conditional."""
    value = helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 3))
    inner = helper.make_graph(nodes, "inner", [], [value], initializer=initializer)
    return helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)


def test_a_plain_model_is_taken():
    content = model(initializer=[tensor()])
    assert received_onnx(content, (1, 3), "float32").content == content


CONSTANT = helper.make_node("Constant", [], ["z"], value=tensor(external=True))
DEFAULT = helper.make_function("d", "f", ["x"], ["z"], [], [], attribute_protos=[
    helper.make_attribute("w", tensor(external=True))])  # fmt: skip
FOREIGN = helper.make_node("EPContext", ["x"], ["z"], domain="com.microsoft")


@pytest.mark.parametrize(("content", "message"), [
    (b"\x00\x01junk", "not an ONNX model"),
    (model(initializer=[tensor(external=True)]), "in other files"),
    (model([CONSTANT]), "in other files"),
    (model([branch(CONSTANT)]), "in other files"),
    (model([branch(initializer=[tensor("z", external=True)])]), "in other files"),
    (model(functions=[helper.make_function("d", "f", ["x"], ["z"], [CONSTANT], [])]), "in other files"),
    (model(functions=[DEFAULT]), "in other files"),
    (model([FOREIGN]), r"only ONNX's own operations.*com.microsoft.EPContext"),
    (model([branch(branch(FOREIGN))]), "only ONNX's own operations"),
    (model(functions=[helper.make_function("d", "f", ["x"], ["z"], [FOREIGN], [])]), "only ONNX's own operations"),
    (model(shape=(2, 3)), "another input or output"),
    (model(inputs=("x", "w")), "another input or output"),
    (b"", "another input or output"),
])  # fmt: skip
def test_others_are_refused(content, message):
    with pytest.raises(MeasureError, match=message):
        received_onnx(content, (1, 3), "float32")
