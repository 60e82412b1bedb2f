package org.classkinfy.core

import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class TensorTest {
    @Test
    fun `numbers lie little-endian, as hashes of golden tensors take them`() {
        assertArrayEquals(byteArrayOf(0, 0, -128, 63, 0, 0, 0, -64), Tensor.of(floatArrayOf(1f, -2f), 2).bytes())
        assertArrayEquals(byteArrayOf(1, 2, 0, 0), Tensor.of(intArrayOf(513), 1).bytes())
        assertArrayEquals(byteArrayOf(-1, 0), Tensor.of(byteArrayOf(-1, 0), 1, 2).bytes())
    }

    @Test
    fun `all of a buffer's bytes are taken as they lie, wherever it was left`() {
        val data = ByteBuffer.allocateDirect(4).order(ByteOrder.BIG_ENDIAN)
        data.put(byteArrayOf(0, 0, -128, 63))
        data.limit(2).position(1)
        assertArrayEquals(floatArrayOf(1f), Tensor(Dtype.FLOAT32, intArrayOf(1), data).floats(), 0f)
    }

    @Test
    fun `readers do not move each other`() {
        val tensor = Tensor.of(intArrayOf(1, 2, 3), 3)
        tensor.data.position(8)
        val first = tensor.data
        first.int
        assertEquals(12, tensor.data.remaining())
        repeat(2) { assertArrayEquals(intArrayOf(1, 2, 3), tensor.ints()) }
    }

    @Test
    fun `shapes and dtypes are what the bytes are`() {
        assertThrows(IllegalArgumentException::class.java) { Tensor.allocate(Dtype.UINT8, 0) }
        assertThrows(IllegalArgumentException::class.java) { Tensor.allocate(Dtype.UINT8, 65_536, 65_536) }
        assertThrows(IllegalArgumentException::class.java) { Tensor.allocate(Dtype.UINT8, -1, -1) }
        val small = ByteBuffer.allocateDirect(3)
        assertThrows(IllegalArgumentException::class.java) { Tensor(Dtype.FLOAT32, intArrayOf(1), small) }
        val onHeap = ByteBuffer.allocate(4)
        assertThrows(IllegalArgumentException::class.java) { Tensor(Dtype.FLOAT32, intArrayOf(1), onHeap) }
        assertThrows(IllegalStateException::class.java) { Tensor.of(intArrayOf(1), 1).floats() }
        assertThrows(IllegalStateException::class.java) { Tensor.of(floatArrayOf(1f), 1).ints() }
        assertThrows(BundleException::class.java) { Dtype.of("float64") }
    }
}
