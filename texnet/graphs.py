"""Generators as ONNX graphs; needs the extra ``onnx``.

A graph is written node by node from the network's plain form, which ``torch.fx`` traces in
milliseconds. PyTorch's own exporters would take seconds and put paths of the machine into the file
(``torch.export``), or are deprecated and make four times the nodes (TorchScript).
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from torch import fx, nn

from texnet import __version__
from texnet.errors import UsageError
from texnet.generators import Network
from texnet.plain import Cropped, Extended, plain
from texnet.texturenets import TextureNetV1, TextureNetV2

FORMAT = "texnet-onnx-1"
OPSET = 15
"""The lowest in which Shape gives some axes alone, of ONNX 1.10 (2021)."""
IR_VERSION = 8
"""The file format of that release."""
NEAREST = {
    "mode": "nearest",
    "nearest_mode": "floor",
    "coordinate_transformation_mode": "asymmetric",
}
BILINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
"""Attributes of doublings, that make them PyTorch's."""
Shape = list[int | str]


def takes_content(net: Network) -> bool:
    """Whether a network is given photographs."""
    return net.content if isinstance(net, TextureNetV1) else not isinstance(net, TextureNetV2)


def inputs(net: Network) -> dict[str, Shape]:
    """Name and shape of what a graph is given, in the order of ``net(content, noise)``.

    Free sides have names; those of a TextureNetV1's noise are multiples of the coarsest scale's.
    """
    side = net.size if isinstance(net, TextureNetV2) else 32
    noise = net.noise_shapes(1, side, side)
    names = ["noise"] if len(noise) == 1 else [f"noise_{i}" for i in range(len(noise))]
    found: dict[str, Shape] = {}
    if takes_content(net):
        found["content"] = ["batch", 3, "height", "width"]
    for name, (_, channels, *sides) in zip(names, noise, strict=True):
        free = ["height", "width"][: len(sides)]
        if isinstance(net, TextureNetV1):  # of 32 pixels, the coarsest scale has one
            free = [f"{sides[0]}*rows", f"{sides[1]}*columns"]
        found[name] = ["batch", channels, *free]
    return found


def output(net: Network) -> Shape:
    """The shape of the image that a graph makes."""
    if isinstance(net, TextureNetV2):
        return ["batch", 3, net.size, net.size]
    sides = ["height", "width"] if takes_content(net) else ["32*rows", "32*columns"]
    return ["batch", 3, *sides]


def graph(net: Network, name: str, about: Mapping[str, str]) -> ModelProto:
    """A network in evaluation mode as an ONNX model, which says what it is.

    Args:
        net: the network.
        name: of its run.
        about: what its metadata say besides their format and the noise.

    Raises:
        UsageError: the network has a layer that has no ONNX form here.
    """
    writer, kind = Writer(net), TensorProto.FLOAT
    made = helper.make_graph(
        [*writer.nodes, helper.make_node("Identity", [writer.image], ["image"], "image")],
        name,
        [helper.make_tensor_value_info(key, kind, shape) for key, shape in inputs(net).items()],
        [helper.make_tensor_value_info("image", kind, output(net))],
        list(writer.constants.values()),
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="texnet",
        producer_version=__version__,
        doc_string="A generator of Improved Texture Networks (CVPR 2017), made by texnet. Images "
        "are RGB in [0, 1]; what comes out may leave that a little: clamp it.",
    )
    said = {"format": FORMAT, **about}
    if inputs(net).keys() - {"content"}:
        said["noise"] = "N(0, 1)" if net.distribution == "normal" else "U(0, 1)"
    helper.set_model_props(model, said)
    checker.check_model(model, full_check=True)
    return model


def formless(kind: str, name: str, method: str) -> UsageError:
    """The error of a layer, or an operation, that a method of :class:`Writer` does not know."""
    return UsageError(
        f"{kind} (in the network: {name}) has no ONNX form here; give it one in "
        f"texnet/graphs.py: Writer.{method}"
    )


class Tracer(fx.Tracer):
    """Looks into modules down to what the writer knows."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Extended | Cropped) or super().is_leaf_module(m, module_qualified_name)


class Writer:
    """The nodes of a network's plain form.

    Attributes:
        nodes: in the order in which they are computed.
        constants: weights, which keep their names in the plain form, and numbers, by name.
        image: the name of what the last node makes.
    """

    def __init__(self, net: Network) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.numbers: dict[tuple[bytes, str], str] = {}
        made = plain(net)
        self.state = made.state_dict()
        noise = [name for name in inputs(net) if name != "content"]
        values: dict[Any, str] = {}
        for step in Tracer().trace(made).nodes:
            self.name, self.layer = step.name, str(step.target)
            if step.op == "placeholder":
                values[step] = step.name
            elif step.op == "call_module":
                given = [values[each] for each in step.args]
                values[step] = self.applied(made.get_submodule(step.target), *given)
            elif step.op == "output":
                self.image = values[step.args[0]]
            elif step.target is operator.getitem:  # of the sequence of noise
                values[step] = noise[step.args[1]]
            else:
                values[step] = self.computed(step, values)

    def computed(self, step: fx.Node, values: Mapping[Any, str]) -> str:
        """A sum, or a concatenation."""
        given: Any = step.args
        if step.target is torch.cat:
            return self.node(
                "Concat", *(values[each] for each in given[0]), axis=step.kwargs["dim"]
            )
        if step.target is operator.add:
            names = (values.get(each) or self.constant(np.float32(each)) for each in given)
            return self.node("Add", *names)
        raise formless(getattr(step.target, "__name__", self.layer), self.name, "computed")

    def applied(self, module: nn.Module, x: str, *others: str) -> str:
        """A layer of PyTorch, or of :mod:`texnet.plain`, applied to the value of a name."""
        match module:
            case nn.Identity() | nn.AvgPool2d(kernel_size=1):
                return x
            case nn.Conv2d() | nn.ConvTranspose2d():
                how: dict[str, Any] = {"strides": module.stride, "pads": [*module.padding] * 2}
                if isinstance(module, nn.Conv2d):
                    return self.node("Conv", x, *self.weights(), **how)
                how["output_padding"] = module.output_padding
                return self.node("ConvTranspose", x, *self.weights(), **how)
            case nn.Linear():
                return self.node("Gemm", x, *self.weights(), transB=1)
            case nn.InstanceNorm2d():
                return self.instance_norm(x, module.eps)
            case nn.BatchNorm2d():
                weights = self.weights("weight", "bias", "running_mean", "running_var")
                return self.node("BatchNormalization", x, *weights, epsilon=module.eps)
            case nn.LocalResponseNorm():
                how = {"size": module.size, "alpha": module.alpha, "beta": module.beta}
                return self.node("LRN", x, bias=float(module.k), **how)
            case nn.ReLU():
                return self.node("Relu", x)
            case nn.LeakyReLU():
                return self.node("LeakyRelu", x, alpha=module.negative_slope)
            case nn.AvgPool2d():
                sides = [module.kernel_size] * 2
                return self.node("AveragePool", x, kernel_shape=sides, strides=sides)
            case nn.Unflatten():
                shape = self.constant(np.array([0, *module.unflattened_size]))
                return self.node("Reshape", x, shape)
            case nn.Upsample():
                how = NEAREST if module.mode == "nearest" else BILINEAR
                factors = np.array([1, 1, module.scale_factor, module.scale_factor], np.float32)
                return self.node("Resize", x, "", self.constant(factors), **how)
            case nn.ReplicationPad2d():
                left, right, top, bottom = module.padding
                pads = self.constant(np.array([0, 0, top, left, 0, 0, bottom, right]))
                return self.node("Pad", x, pads, mode="edge")
            case nn.CircularPad2d(padding=(1, 1, 1, 1)):
                return self.wrapped(self.wrapped(x, 2), 3)
            case Extended():
                size = self.node("Neg", self.node("Shape", x, start=2))
                missing = self.node("Mod", size, self.constant(np.array([module.multiple])))
                pads = self.node("Concat", self.constant(np.zeros(6, int)), missing, axis=0)
                return self.node("Pad", x, pads, mode="edge")
            case Cropped():
                size = self.node("Shape", *others, start=2)
                first, axes = (self.constant(np.array(each)) for each in ([0, 0], [2, 3]))
                return self.node("Slice", x, first, size, axes)
        raise formless(type(module).__name__, self.layer, "applied")

    def instance_norm(self, x: str, eps: float) -> str:
        """Eq. 12. ONNX has an operator for it, whose sums over a map lose digits in ONNX Runtime:
        images of a megapixel were off by 1.5e-3. Means of rows, and then of those, do not.
        """
        centred = self.node("Sub", x, self.mean(x))
        variance = self.mean(self.node("Mul", centred, centred))
        deviation = self.node("Sqrt", self.node("Add", variance, self.constant(np.float32(eps))))
        scale, bias = self.weights(shape=(-1, 1, 1))
        factor = self.node("Div", scale, deviation)
        return self.node("Add", self.node("Mul", centred, factor), bias)

    def mean(self, x: str) -> str:
        """Of each map of each image, (B, C, 1, 1)."""
        return self.node("ReduceMean", self.node("ReduceMean", x, axes=[3]), axes=[2])

    def wrapped(self, x: str, axis: int) -> str:
        """Circular padding by one along an axis; Pad has a mode for it from opset 19 on."""
        bounds = (0, 1, -1, np.iinfo(np.int64).max, axis)
        first, second, last, end, along = (self.constant(np.array([each])) for each in bounds)
        before = self.node("Slice", x, last, end, along)
        after = self.node("Slice", x, first, second, along)
        return self.node("Concat", before, x, after, axis=axis)

    def node(self, kind: str, *given: str, **how: Any) -> str:  # noqa: ANN401 (ONNX's attributes)
        """One more node; returns the name of what it makes."""
        name = f"{self.name}_{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, given, [name], name, **how))
        return name

    def weights(self, *names: str, shape: tuple[int, ...] | None = None) -> list[str]:
        """Names of the present layer's weights, which are kept as constants (of a shape)."""
        found = [f"{self.layer}.{name}" for name in names or ("weight", "bias")]
        for name in found:
            if name not in self.state:
                raise formless(f"a layer without {name}", self.layer, "applied")
            values = self.state[name] if shape is None else self.state[name].reshape(shape)
            self.constants[name] = numpy_helper.from_array(values.numpy(), name)
        return found

    def constant(self, values: np.ndarray | np.generic) -> str:
        """The name of some numbers; equal ones are kept once."""
        array = np.asarray(values)
        name = f"constant_{len(self.numbers)}"
        name = self.numbers.setdefault((array.tobytes(), f"{array.dtype}{array.shape}"), name)
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name
