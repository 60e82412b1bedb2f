package com.google.ai.edge.litert

import com.sun.jna.Pointer

/** Copies whole tensors, as the arrays that Android's has; it knows no dtype but these three. */
class TensorBuffer internal constructor(internal val handle: Pointer) : AutoCloseable {
    private val api = CApi.library
    private val size = CApi.size("measure a buffer") { api.LiteRtGetTensorBufferPackedSize(handle, it) }

    fun writeInt8(data: ByteArray) = locked(CApi.LOCK_WRITE, data.size, 1) { it.write(0, data, 0, data.size) }

    fun writeInt(data: IntArray) = locked(CApi.LOCK_WRITE, data.size, 4) { it.write(0, data, 0, data.size) }

    fun writeFloat(data: FloatArray) = locked(CApi.LOCK_WRITE, data.size, 4) { it.write(0, data, 0, data.size) }

    fun readInt8(): ByteArray = locked(CApi.LOCK_READ, size.toInt(), 1) { it.getByteArray(0, size.toInt()) }

    fun readInt(): IntArray = (size / 4).toInt().let { n -> locked(CApi.LOCK_READ, n, 4) { it.getIntArray(0, n) } }

    fun readFloat(): FloatArray =
        (size / 4).toInt().let { n -> locked(CApi.LOCK_READ, n, 4) { it.getFloatArray(0, n) } }

    override fun close() = api.LiteRtDestroyTensorBuffer(handle)

    private fun <T> locked(mode: Int, count: Int, bytes: Int, access: (Pointer) -> T): T {
        if (count.toLong() * bytes != size) {
            throw LiteRtException("$count elements of $bytes bytes for a buffer of $size bytes")
        }
        val memory = CApi.pointer("lock a buffer") { api.LiteRtLockTensorBuffer(handle, it, mode) }
        try {
            return access(memory)
        } finally {
            CApi.check(api.LiteRtUnlockTensorBuffer(handle), "unlock a buffer")
        }
    }
}
