package org.classkinfy.android

import org.classkinfy.core.Dtype
import org.classkinfy.core.Engine
import org.classkinfy.core.EngineException
import org.classkinfy.core.EngineProvider
import org.classkinfy.core.Tensor
import org.classkinfy.core.TensorSpec
import org.classkinfy.ort.OrtEngineProvider

/** ONNX Runtime, with accelerators that are wrong, or cannot be had. */
class TestEngineProvider : EngineProvider {
    private val real = OrtEngineProvider()
    override val name = real.name
    override val format = real.format
    override val version: String get() = real.version

    override fun open(model: ByteArray, name: String, threads: Int, accelerator: String?): Engine {
        opened += accelerator
        return when (accelerator) {
            null -> real.open(model, name, threads, null)
            LIAR -> Liar(real.open(model, name, threads, null))
            UNLINKED -> throw UnsatisfiedLinkError("no libaccelerator.so")
            else -> throw EngineException("there is no accelerator $accelerator")
        }
    }

    /** Off by more than any tolerance, as half floats are. */
    private class Liar(private val engine: Engine) : Engine {
        override fun run(entry: String, inputs: Map<String, Tensor>, outputs: List<TensorSpec>): Map<String, Tensor> =
            engine.run(entry, inputs, outputs).mapValues { (name, tensor) ->
                if (name != "probabilities" || tensor.dtype != Dtype.FLOAT32) tensor
                else Tensor.of(FloatArray(tensor.size) { tensor.floats()[it] + OFF }, *tensor.shape)
            }

        override fun close() = engine.close()
    }

    companion object {
        const val LIAR = "liar"
        const val UNLINKED = "unlinked"
        private const val OFF = 0.01f

        /** The accelerator of each model that was opened. */
        val opened = ArrayList<String?>()
    }
}
