package org.classkinfy.ort

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import org.classkinfy.core.Dtype
import org.classkinfy.core.Engine
import org.classkinfy.core.EngineException
import org.classkinfy.core.Tensor
import org.classkinfy.core.TensorSpec

/** One ONNX file. Tensors are read and written where they lie: nothing is copied. */
internal class OrtEngine(
    private val environment: OrtEnvironment,
    private val session: OrtSession,
    private val name: String,
) : Engine {
    /** An ONNX file has one graph: [entry] says nothing. */
    override fun run(entry: String, inputs: Map<String, Tensor>, outputs: List<TensorSpec>): Map<String, Tensor> {
        val results = outputs.associate { it.name to Tensor.allocate(it.dtype, *it.shape) }
        val opened = ArrayList<OnnxTensor>()
        try {
            val given = session.inputNames.associateWith { wanted ->
                val tensor = inputs[wanted] ?: throw EngineException("$name: input $wanted was not given")
                onnx(tensor).also { opened += it }
            }
            val pinned = results.mapValues { (_, tensor) -> onnx(tensor).also { opened += it } }
            session.run(given, pinned).close()
            return results
        } catch (error: OrtException) {
            throw EngineException("$name failed to run: ${error.message}", error)
        } finally {
            opened.forEach { it.close() }
        }
    }

    override fun close() = session.close()

    private fun onnx(tensor: Tensor): OnnxTensor {
        val shape = LongArray(tensor.shape.size) { tensor.shape[it].toLong() }
        val data = tensor.data
        return when (tensor.dtype) {
            Dtype.UINT8 -> OnnxTensor.createTensor(environment, data, shape, OnnxJavaType.UINT8)
            Dtype.INT32 -> OnnxTensor.createTensor(environment, data.asIntBuffer(), shape)
            Dtype.FLOAT32 -> OnnxTensor.createTensor(environment, data.asFloatBuffer(), shape)
        }
    }
}
