"""A trained net as ONNX: the graph is written out, so that it holds nothing but what is listed."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from encoder.profile.train import Trained
from schemas.encoder_inputs import INPUTS

__all__ = ["to_onnx"]

OPSET = 17
IR_VERSION = 8  # what onnxruntime has read for years


def to_onnx(trained: Trained) -> bytes:
    """The encoder without its heads, as a self-contained ONNX file."""
    graph = _Graph()
    net = trained.net
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in net.state_dict().items()}
    graph.constant("embedding", weights["embedding.weight"])
    parts = [
        graph.bag("token_index", "token_weight"),
        graph.bag("event_index", "event_weight"),
    ]
    if trained.inputs.numbers:
        parts += [graph.pieces(net.bins), "known"]
    graph.add("Concat", parts, "x", axis=1)
    first = graph.dense("x", "first", weights["first.weight"], weights["first.bias"])
    graph.add("Relu", [first], "first_on")
    second = graph.dense("first_on", "second", weights["second.weight"], weights["second.bias"])
    graph.add("Relu", [second], "second_on")
    deep = graph.dense("second_on", "third", weights["third.weight"], weights["third.bias"])
    graph.constant("straight_weight", weights["straight.weight"].T)
    graph.add("MatMul", ["x", "straight_weight"], "wide")
    graph.add("Add", [deep, "wide"], "z")
    return graph.to_bytes(len(trained.inputs.numbers), trained.config.z_size)


class _Graph:
    """Nodes and constants in the making."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def add(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def dense(self, x: str, name: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
        """``x @ weight.T + bias`` with weight (out, in)."""
        self.constant(f"{name}_weight", weight.T.astype(np.float32))
        self.constant(f"{name}_bias", bias.astype(np.float32))
        return self.add("Gemm", [x, f"{name}_weight", f"{name}_bias"], name)

    def bag(self, index: str, weight: str) -> str:
        """Sum over L of weight (n, L) times embedding (n, L, d), as a product of matrices."""
        rows = self.add("Gather", ["embedding", index], f"{index}_rows", axis=0)
        self.constant(f"{index}_axis", np.array([1], dtype=np.int64))
        row = self.add("Unsqueeze", [weight, f"{index}_axis"], f"{index}_row")  # (n, 1, L)
        product = self.add("MatMul", [row, rows], f"{index}_product")  # (n, 1, d)
        return self.add("Squeeze", [product, f"{index}_axis"], f"{index}_bag")

    def pieces(self, bins: int) -> str:
        """The piecewise linear encoding, (n, m * bins); see `ProfileNet.pieces`."""
        edges = np.linspace(-1.0, 1.0, bins + 1, dtype=np.float32)[:-1]
        self.constant("last_axis", np.array([2], dtype=np.int64))
        self.constant("edges", edges)
        self.constant("steepness", np.array(bins / 2.0, dtype=np.float32))
        self.constant("zero", np.array(0.0, dtype=np.float32))
        self.constant("one", np.array(1.0, dtype=np.float32))
        self.add("Unsqueeze", ["numbers", "last_axis"], "numbers_3d")
        self.add("Unsqueeze", ["known", "last_axis"], "known_3d")
        self.add("Sub", ["numbers_3d", "edges"], "beyond")
        self.add("Mul", ["beyond", "steepness"], "steep")
        self.add("Clip", ["steep", "zero", "one"], "filled")
        self.add("Mul", ["filled", "known_3d"], "filled_known")
        return self.add("Flatten", ["filled_known"], "pieces", axis=1)

    def to_bytes(self, numbers: int, z_size: int) -> bytes:
        widths: dict[str, int | str] = dict(zip(INPUTS, ("L", "L", "K", "K"), strict=False))
        inputs = [
            helper.make_tensor_value_info(
                name,
                TensorProto.INT64 if name.endswith("index") else TensorProto.FLOAT,
                ["n", widths.get(name, numbers)],
            )
            for name in INPUTS
        ]
        output = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", z_size])
        graph = helper.make_graph(self._nodes, "profile_encoder", inputs, [output], self._constants)
        model = helper.make_model(
            graph,
            producer_name="groundswell",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        raw: bytes = model.SerializeToString(deterministic=True)
        return raw
