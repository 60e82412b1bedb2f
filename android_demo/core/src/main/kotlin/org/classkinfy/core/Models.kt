package org.classkinfy.core

/** The model files of a bundle in one runtime and precision, opened when first needed. */
internal class Models(
    private val bundle: Bundle,
    private val provider: EngineProvider,
    private val precision: String,
    private val options: Options,
) : AutoCloseable {
    private val engines = LinkedHashMap<String, Engine>()
    private var closed = false

    fun load(stage: StageSpec) {
        engine(file(stage))
    }

    /** Run a stage: its inputs are taken from the tensors by name, its outputs are added to them. */
    fun run(stage: StageSpec, tensors: MutableMap<String, Tensor>, timings: MutableMap<String, Double>) {
        val start = System.nanoTime()
        val inputs = stage.inputs.associate { it.name to checked(stage, it, tensors[it.name]) }
        val file = file(stage)
        val outputs = engine(file).run(file.entries.getValue(stage.name), inputs, stage.outputs)
        for (spec in stage.outputs) tensors[spec.name] = checked(stage, spec, outputs[spec.name])
        timings[stage.name] = (System.nanoTime() - start) / 1e6
    }

    override fun close() {
        closed = true
        engines.values.forEach { it.close() }
        engines.clear()
    }

    private fun file(stage: StageSpec): ModelFile =
        bundle.manifest.model(stage.name, provider.format, precision)
            ?: throw badEngine("the bundle has no ${stage.name} in ${provider.format} $precision")

    private fun engine(file: ModelFile): Engine {
        if (closed) throw badEngine("the pipeline is closed", "open it again")
        return engines.getOrPut(file.path) {
            provider.open(bundle.read(file.path), file.path, options.threads, options.accelerator)
        }
    }

    private fun checked(stage: StageSpec, spec: TensorSpec, tensor: Tensor?): Tensor {
        if (tensor == null) throw badEngine("stage ${stage.name}: there is no ${spec.name}")
        if (tensor.dtype != spec.dtype || !tensor.shape.contentEquals(spec.shape)) {
            throw badEngine(
                "stage ${stage.name}: ${spec.name} is ${tensor.dtype.label} ${tensor.shape.contentToString()}, " +
                    "the manifest says ${spec.dtype.label} ${spec.shape.contentToString()}",
            )
        }
        return tensor
    }
}
