"""PyTorch, the reference: stages rebuilt from the bundle's weights. The one bridge to torch."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from classkinfy_export.bundle.manifest import PIPELINE, ModelFile
from classkinfy_export.bundle.reader import Bundle
from classkinfy_export.contract import FormatName, StageSpec, grade_stage
from classkinfy_export.frame import Pixels
from classkinfy_export.precision import Precision
from classkinfy_export.runtimes.base import Array, Engine, Runtime, Tensors

if TYPE_CHECKING:
    from classkinfy_export.stages.checkpoint import Checkpoint


class Intermediate(NamedTuple):
    """A tensor that a stage computes on its way."""

    name: str
    """As ``torch.export`` names it, which ONNX keeps where it can; of an input, the stage's."""
    operator: str
    """``convolution``, for instance; ``input`` of a stage's input."""
    inputs: tuple[str, ...]
    """The intermediates that it is computed of; weights and constants are none."""
    weights: tuple[str, ...]
    """Those of the stage's module that it is computed with."""
    value: Array


class Weights(NamedTuple):
    """The checkpoints in a bundle."""

    classifier: Checkpoint
    graders: dict[str, Checkpoint]
    """By diagnosis."""
    screen: Checkpoint | None


def read_weights(bundle: Bundle) -> Weights:
    """Read the checkpoints of a bundle that holds format ``pytorch``."""
    from classkinfy_export.stages import checkpoint

    manifest, weights = bundle.manifest, {}
    for model in manifest.models:
        if model.format == PytorchRuntime.format:
            stage = next(n for n in model.entries if n in manifest.provenance.checkpoints)
            weights[stage] = checkpoint.from_bytes(bundle.read(model.path), model.path)
    graders = {
        spec.diagnosis: weights[spec.name]
        for spec in manifest.stages
        if spec.diagnosis is not None and spec.name in weights
    }
    return Weights(weights["classify"], graders, weights.get("screen"))


class PytorchRuntime(Runtime):
    """Eager PyTorch on the CPU."""

    name: ClassVar[str] = "pytorch"
    format: ClassVar[FormatName] = "pytorch"
    package: ClassVar[str] = "torch"
    module: ClassVar[str] = "torch"
    extra: ClassVar[str] = "export"

    def _open(self, bundle: Bundle, precision: Precision, threads: int) -> Engine:
        return PytorchEngine(bundle, self.format, precision, threads)


class PytorchEngine(Engine):
    """A bundle's stages, rebuilt."""

    def __init__(
        self, bundle: Bundle, format: FormatName, precision: Precision, threads: int
    ) -> None:
        super().__init__(bundle, format, precision, threads)
        from classkinfy_export.stages.assembly import assemble

        manifest, weights = bundle.manifest, read_weights(bundle)
        assembly = assemble(
            weights.classifier,
            weights.graders,
            screen=weights.screen,
            capture=manifest.capture,
            working_size=manifest.working_size,
            hair_removal=manifest.hair_removal,
            rules=manifest.quality_rules,
            pipeline_outputs=tuple(t.name for t in manifest.pipeline.outputs)
            if manifest.pipeline
            else (),
        )
        self.modules = {**assembly.modules, PIPELINE: assembly.pipeline}
        """The stages, for what a runtime does not do: ask for gradients."""

    def opened(self) -> list[str]:
        """Return the model files: all of them, they are the assembly."""
        return [m.path for m in self.bundle.manifest.models if m.format == self.format]

    def close(self) -> None:
        """The modules go with the engine."""

    def _load(self, model: ModelFile, stage: str) -> None:
        """Everything is loaded when the engine opens."""

    def _run(self, model: ModelFile, spec: StageSpec, inputs: dict[str, Array]) -> dict[str, Array]:
        import torch

        # Threads are a process-wide setting; another engine may have changed it.
        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            tensors = [torch.from_numpy(inputs[tensor.name]) for tensor in spec.inputs]
            outputs = self.modules[spec.name](*tensors)
        return {tensor.name: outputs[tensor.name].numpy() for tensor in spec.outputs}

    def of_embedding(self, tensors: Tensors, graders: Sequence[str]) -> dict[str, Array]:
        """Give what follows from an ``embedding`` that another runtime made.

        Args:
            tensors: its ``embedding``, and ``preliminary`` and ``features`` where there are any.
            graders: diagnoses whose heads are on the trunk.

        Returns:
            ``probabilities``, and ``severity_<dx>`` of each grader.
        """
        import torch

        with torch.inference_mode():
            given = {
                name: torch.from_numpy(tensors[name].copy())
                for name in ("embedding", "preliminary", "features")
                if name in tensors
            }
            module: Any = self.modules["classify"]
            answer = module.answer(given["embedding"], given.get("preliminary")).numpy()
        graded = {
            f"severity_{dx}": self.run(grade_stage(dx), tensors)["severity"] for dx in graders
        }
        return {"probabilities": answer, **graded}

    def levels(self, image: Pixels) -> dict[str, Pixels]:
        """Give the 8-bit images that stages make on their way, for other libraries to repeat.

        Args:
            image: as ``prepare`` takes it.

        Returns:
            ``image`` itself; ``rgb`` after the front end and ``clean``, uint8 [1, h, w, 3];
            ``gray`` and ``hair_mask`` (0 or 1), uint8 [1, h, w]; and ``resized_<s>`` of each size
            that networks take, uint8 [1, s, s, 3].
        """
        import torch

        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            given = torch.from_numpy(image)
            prepare: Any = self.modules["prepare"]
            rgb, gray, hair = prepare.find_hair(given)
            clean = prepare(given)["clean"]
            made = {
                "rgb": rgb.permute(1, 2, 3, 0),
                "gray": gray[:, 0],
                "hair_mask": hair[:, 0],
                "clean": clean,
            }
            for stage, network in self.bundle.manifest.networks.items():
                name = f"resized_{network.input_size}"
                resized = getattr(self.modules[stage], "resized", None)
                if name not in made and resized is not None:
                    made[name] = resized(clean).permute(0, 2, 3, 1)
        levels = {name: tensor.to(torch.uint8).numpy() for name, tensor in made.items()}
        return {"image": image, **levels}

    def trace(self, stage: str, tensors: Tensors) -> list[Intermediate]:
        """Run a stage operator by operator, on the graph that the exporters are given.

        Args:
            stage: its name.
            tensors: its inputs, by name.

        Returns:
            every tensor, in the order in which they are computed, the stage's inputs first. What
            of two operators is in one tensor, such as a view, is given twice.
        """
        import torch
        from torch.fx import Interpreter, Node

        class Recorder(Interpreter):
            """Keeps what every node gave."""

            def run_node(self, n: Node) -> Any:  # noqa: ANN401  (as torch has it)
                value = super().run_node(n)
                if isinstance(value, torch.Tensor) and n.op != "get_attr":
                    kept[n] = value.numpy().copy()
                return value

        kept: dict[Node, Array] = {}
        spec = self.bundle.manifest.stage(stage)
        torch.set_num_threads(self.threads)
        inputs = tuple(torch.from_numpy(tensors[t.name].copy()) for t in spec.inputs)
        with torch.no_grad():
            program = torch.export.export(self.modules[stage], inputs).run_decompositions()
            Recorder(program.module()).run(*inputs)
        names = dict(zip((n for n in kept if n.op == "placeholder"), spec.inputs, strict=True))
        called = {node: names[node].name if node in names else node.name for node in kept}
        return [
            Intermediate(
                name=called[node],
                operator="input" if node in names else _operator(node),
                inputs=tuple(called[n] for n in _sources(node) if n in kept),
                weights=tuple(str(n.target) for n in _sources(node) if n.op == "get_attr"),
                value=value,
            )
            for node, value in kept.items()
        ]


def _sources(node: Any) -> list[Any]:  # noqa: ANN401  (of torch, which is not imported here)
    """Return the nodes that a node reads; of a piece of a tuple, those that the tuple was of."""
    found = []
    for source in node.all_input_nodes:
        given = source.meta.get("val")
        found += _sources(source) if isinstance(given, tuple | list) else [source]
    return found


def _operator(node: Any) -> str:  # noqa: ANN401
    """Return an operator's name: ``add`` of ``aten.add.Tensor``, and ``batch_norm`` of a longer."""
    while node.target is operator.getitem:
        node = node.args[0]
    name = str(getattr(node.target, "overloadpacket", node.target)).rpartition(".")[2]
    return name.lstrip("_").removeprefix("native_").removesuffix("_legit_no_training")
