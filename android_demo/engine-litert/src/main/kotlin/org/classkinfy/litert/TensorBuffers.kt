package org.classkinfy.litert

import com.google.ai.edge.litert.TensorBuffer
import org.classkinfy.core.Dtype
import org.classkinfy.core.EngineException
import org.classkinfy.core.Tensor
import org.classkinfy.core.TensorSpec

// LiteRT's API has no uint8. Its int8 calls copy bytes as they are, whatever a model calls them: 200
// goes in as -56, which is the same byte.

internal fun TensorBuffer.write(tensor: Tensor) = when (tensor.dtype) {
    Dtype.UINT8 -> writeInt8(tensor.bytes())
    Dtype.INT32 -> writeInt(tensor.ints())
    Dtype.FLOAT32 -> writeFloat(tensor.floats())
}

internal fun TensorBuffer.read(spec: TensorSpec): Tensor = when (spec.dtype) {
    Dtype.UINT8 -> readInt8().let { spec.check(it.size); Tensor.of(it, *spec.shape) }
    Dtype.INT32 -> readInt().let { spec.check(it.size); Tensor.of(it, *spec.shape) }
    Dtype.FLOAT32 -> readFloat().let { spec.check(it.size); Tensor.of(it, *spec.shape) }
}

private fun TensorSpec.check(given: Int) {
    val size = shape.fold(1) { all, side -> all * side }
    if (given != size) throw EngineException("the model gives $given elements for $name of ${shape.contentToString()}")
}
