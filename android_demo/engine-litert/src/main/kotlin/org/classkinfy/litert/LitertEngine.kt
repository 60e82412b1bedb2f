package org.classkinfy.litert

import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import org.classkinfy.core.Engine
import org.classkinfy.core.EngineException
import org.classkinfy.core.Tensor
import org.classkinfy.core.TensorSpec

/** One LiteRT file with its signatures. A signature's buffers are made when it first runs. */
internal class LitertEngine(private val model: CompiledModel, private val name: String) : Engine {
    private class Buffers(val inputs: Map<String, TensorBuffer>, val outputs: Map<String, TensorBuffer>)

    private val signatures = HashMap<String, Buffers>()

    override fun run(entry: String, inputs: Map<String, Tensor>, outputs: List<TensorSpec>): Map<String, Tensor> =
        try {
            val buffers = signatures.getOrPut(entry) { buffers(entry, inputs.keys, outputs.map { it.name }) }
            for ((input, buffer) in buffers.inputs) buffer.write(inputs.getValue(input))
            model.run(buffers.inputs, buffers.outputs, entry)
            outputs.associate { it.name to buffers.outputs.getValue(it.name).read(it) }
        } catch (error: LiteRtException) {
            throw EngineException("$name, signature $entry failed to run: ${error.message}", error)
        }

    override fun close() {
        for (buffers in signatures.values) (buffers.inputs.values + buffers.outputs.values).forEach { it.close() }
        signatures.clear()
        model.close()
    }

    private fun buffers(entry: String, inputs: Iterable<String>, outputs: Iterable<String>) = Buffers(
        inputs.associateWith { model.createInputBuffer(it, entry) },
        outputs.associateWith { model.createOutputBuffer(it, entry) },
    )
}
