"""Whether sharing the autoencoder's group norm statistics among tiles would keep them from being tinted.

    python -m benchmarks.tile_norms [BUNDLE] [--size 256]

For smooth pictures, encode and decode of an fp16 bundle run on a whole picture and on its tiles (64x64 latent pixels,
16 of overlap), with the statistics of every group norm taken from: the tile itself; the whole picture (the best that
sharing can do); the picture reduced to one tile; the mean over all tiles. Printed is the largest departure of a tile's
mean, 8 latent pixels in from its edges, from the whole picture's: of decode in 1/255, of encode in the latent's own
unit. What is left with the whole picture's statistics comes of what else looks at everything: attention.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import runtime
from runtime.default_bundle import DEMO_BUNDLE
from runtime.trace import Trace

TILE, OVERLAP, INNER = 64, 16, 8


class Graph:
    """A graph whose group norms give their statistics out, and take others.

    Args:
        file: ONNX, in fp16.
        folder: for the form that is run.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        model, self._groups = onnx.load(file), 0
        nodes, given = list(model.graph.node), []
        del model.graph.node[:]
        for node in nodes:
            if node.op_type == "GroupNormalization":
                given.append(self._written_out(model.graph, node))
            else:
                model.graph.node.append(node)
        model.graph.node.append(helper.make_node("Concat", given, ["norms_out"], axis=1))
        shape = [1, self._groups, 2]
        model.graph.input.append(helper.make_tensor_value_info("norms", TensorProto.FLOAT, shape))
        model.graph.input.append(helper.make_tensor_value_info("given", TensorProto.BOOL, [1]))
        model.graph.output.append(helper.make_tensor_value_info("norms_out", TensorProto.FLOAT, shape))
        path = folder / f"{file.parent.name}.onnx"
        onnx.save(model, path)
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, values: np.ndarray, norms: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The first output, and the norms' own (mean, variance) [1, groups, 2]."""
        name = self._session.get_inputs()[0].name
        other = np.zeros((1, self._groups, 2), np.float32) if norms is None else norms
        feed = {name: np.ascontiguousarray(values), "norms": other, "given": np.array([norms is not None])}
        first, *_, own = self._session.run(None, feed)
        return first, own

    def _written_out(self, graph: onnx.GraphProto, node: onnx.NodeProto) -> str:
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        count, prefix = attributes["num_groups"], f"{node.output[0]}/"
        x, *affine = node.input

        def constant(name: str, value: object, kind: type = np.int64) -> str:
            graph.initializer.append(numpy_helper.from_array(np.array(value, kind), prefix + name))
            return prefix + name

        def add(op: str, inputs: list[str], *outputs: str, **settings: object) -> str:
            graph.node.append(helper.make_node(op, inputs, [prefix + name for name in outputs], **settings))
            return prefix + outputs[0]

        rows = add("Reshape", [add("Cast", [x], "x", to=TensorProto.FLOAT), constant("rows", [0, count, -1])], "r")
        axis = constant("axis", [2])
        mean = add("ReduceMean", [rows, axis], "mean")
        centered = add("Sub", [rows, mean], "centered")
        variance = add("ReduceMean", [add("Mul", [centered, centered], "squares"), axis], "variance")
        own = add("Concat", [mean, variance], "own", axis=2)
        ends = [constant("begin", [self._groups]), constant("end", [self._groups + count]), constant("of", [1])]
        used = add("Where", ["given", add("Slice", ["norms", *ends], "other"), own], "used")
        add("Split", [used], "used_mean", "used_variance", axis=2, num_outputs=2)
        epsilon = constant("epsilon", attributes.get("epsilon", 1e-5), np.float32)
        deviation = add("Sqrt", [add("Add", [prefix + "used_variance", epsilon], "above_zero")], "deviation")
        normal = add("Div", [add("Sub", [rows, prefix + "used_mean"], "moved"), deviation], "normal")
        value = add("Reshape", [normal, add("Shape", [x], "shape")], "value")
        for op, name in zip(("Mul", "Add"), affine, strict=True):
            wide = add("Cast", [name], f"{op}/wide", to=TensorProto.FLOAT)
            value = add(op, [value, add("Reshape", [wide, constant(op, [1, -1, 1, 1])], f"{op}/by")], f"{op}/done")
        graph.node.append(helper.make_node("Cast", [value], [node.output[0]], to=TensorProto.FLOAT16))
        self._groups += count
        return own


def gradient(y: np.ndarray, x: np.ndarray, size: int) -> list[np.ndarray]:
    return [x * 255 / size, y * 255 / size, 255 - x * 255 / size]


def waves(y: np.ndarray, x: np.ndarray, _size: int) -> list[np.ndarray]:
    return [128 + 100 * np.sin(x / 40), 128 + 100 * np.cos(y / 50), 128 + 80 * np.sin((x + y) / 60)]


PICTURES: dict[str, Callable[[np.ndarray, np.ndarray, int], list[np.ndarray]]] = {"gradient": gradient, "waves": waves}


def whole_values(bundle: Path, picture: np.ndarray, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The preprocessed picture [1, 3, 8H, 8W] and the final latent [1, 4, H, W], made without tiles."""
    trace = Trace()
    with runtime.Upscaler(bundle, fallback="none") as upscaler:
        upscaler(picture, steps=1, color_fix="none", tile=None, trace=trace)
    file = folder / "trace.safetensors"
    trace.write(file)
    from safetensors.numpy import load_file

    tensors = load_file(file)
    file.unlink()
    sides = tensors["preprocessed"].shape[-2:]
    return tensors["preprocessed"].reshape(1, 3, *sides), tensors["latents"][-1].reshape(1, 4, *(s // 8 for s in sides))


def departures(graph: Graph, values: np.ndarray, factor: int, out: float) -> dict[str, float]:
    """By source of the statistics; `factor` of the input's and `out` of the output's pixels make one of the latent."""
    side, last = TILE * factor, values.shape[-1] // factor - TILE
    corners = [*range(0, last, TILE - OVERLAP), last]
    places = [(y * factor, x * factor) for y in corners for x in corners]
    tiles = [values[..., y : y + side, x : x + side] for y, x in places]
    whole, exact = graph(values)
    own = np.concatenate([graph(tile)[1] for tile in tiles])
    mean = own[..., 0].mean(0)
    merged = np.stack([mean, (own[..., 1] + own[..., 0] ** 2).mean(0) - mean**2], -1)[None]
    by = values.shape[-1] // side
    small = values.reshape(*values.shape[:2], side, by, side, by).mean((3, 5))
    found = {}
    for name, norms in {"own": None, "whole": exact, "reduced": graph(small)[1], "mean": merged}.items():
        edge, worst = int(INNER * out), 0.0
        for (y, x), tile in zip(places, tiles, strict=True):
            made = graph(tile, norms)[0]
            y, x = (int(at / factor * out) for at in (y, x))
            difference = made - whole[..., y : y + made.shape[-2], x : x + made.shape[-1]]
            worst = max(worst, float(np.abs(difference[..., edge:-edge, edge:-edge].mean((2, 3))).max()))
        found[name] = worst
    return found


def main() -> None:
    p = argparse.ArgumentParser(description="Measures what sharing group norm statistics would do for tiles.")
    p.add_argument("bundle", nargs="?", type=Path, default=DEMO_BUNDLE)
    p.add_argument("--size", type=int, default=256, help="of the inputs, a multiple of 128 above 128")
    args = p.parse_args()
    y, x = np.mgrid[0 : args.size, 0 : args.size]
    print("| picture | graph | own | whole | reduced | mean of tiles |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        decode, encode = (Graph(args.bundle / "onnx" / graph / "model.onnx", folder) for graph in ("decode", "encode"))
        for picture, made in PICTURES.items():
            pixels = np.stack(made(y, x, args.size), -1).astype(np.uint8)
            preprocessed, latent = whole_values(args.bundle, pixels, folder)
            rows = {
                "decode, 1/255": {k: 255 * v for k, v in departures(decode, latent, 1, 8).items()},
                "encode": departures(encode, preprocessed, 8, 1),
            }
            for graph, found in rows.items():
                print(f"| {picture} | {graph} | {' | '.join(f'{value:.2f}' for value in found.values())} |", flush=True)


if __name__ == "__main__":
    main()
