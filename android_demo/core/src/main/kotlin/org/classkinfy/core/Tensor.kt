package org.classkinfy.core

import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The element types of the contract. */
enum class Dtype(val label: String, val bytes: Int) {
    UINT8("uint8", 1),
    INT32("int32", 4),
    FLOAT32("float32", 4),
    ;

    companion object {
        /** Throws [BundleException] of a name that the contract does not have. */
        fun of(label: String): Dtype =
            values().firstOrNull { it.label == label }
                ?: throw BundleException("dtype '$label' is unknown; known: ${values().joinToString { it.label }}")
    }
}

/**
 * A tensor: little-endian elements in row order, in a direct buffer, which engines read without a copy.
 *
 * [data] is never read by position: its view is taken anew where it is used.
 */
class Tensor(val dtype: Dtype, val shape: IntArray, data: ByteBuffer) {
    val size: Int = sizeOf(shape)

    private val stored: ByteBuffer = data

    init {
        require(data.isDirect) { "tensors lie in direct buffers" }
        require(data.capacity() == size * dtype.bytes) {
            "${data.capacity()} bytes for ${dtype.label} ${shape.joinToString("x")}"
        }
    }

    /** All bytes, from the first. */
    val data: ByteBuffer
        get() {
            val view = stored.duplicate().order(ByteOrder.LITTLE_ENDIAN)
            // Its own clear returns a ByteBuffer only since Java 9, and Androids before 13 have none.
            (view as Buffer).clear()
            return view
        }

    fun bytes(): ByteArray = ByteArray(size * dtype.bytes).also { data.get(it) }

    fun floats(): FloatArray {
        check(dtype == Dtype.FLOAT32) { "a ${dtype.label} tensor has no floats" }
        return FloatArray(size).also { data.asFloatBuffer().get(it) }
    }

    fun ints(): IntArray {
        check(dtype == Dtype.INT32) { "a ${dtype.label} tensor has no int32" }
        return IntArray(size).also { data.asIntBuffer().get(it) }
    }

    companion object {
        fun allocate(dtype: Dtype, vararg shape: Int): Tensor {
            val data = ByteBuffer.allocateDirect(sizeOf(shape) * dtype.bytes)
            return Tensor(dtype, shape, data.order(ByteOrder.LITTLE_ENDIAN))
        }

        fun of(bytes: ByteArray, vararg shape: Int): Tensor =
            allocate(Dtype.UINT8, *shape).also { it.data.put(bytes) }

        fun of(floats: FloatArray, vararg shape: Int): Tensor =
            allocate(Dtype.FLOAT32, *shape).also { it.data.asFloatBuffer().put(floats) }

        fun of(ints: IntArray, vararg shape: Int): Tensor =
            allocate(Dtype.INT32, *shape).also { it.data.asIntBuffer().put(ints) }

        private fun sizeOf(shape: IntArray): Int {
            val size = shape.fold(1L) { product, side ->
                require(side >= 1 && product * side <= Int.MAX_VALUE / Int.SIZE_BYTES) {
                    "no tensor is ${shape.joinToString("x")}"
                }
                product * side
            }
            return size.toInt()
        }
    }
}
