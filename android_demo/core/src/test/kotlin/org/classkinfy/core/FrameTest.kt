package org.classkinfy.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class FrameTest {
    @Test
    fun `photos of any shape are framed byte for byte as in Python`() {
        val seen = HashSet<Pair<Layout, Fit>>()
        for (entry in Vectors.entries("frames")) {
            val image = Pixels(entry.getInt("width"), entry.getInt("height"), Vectors.bytes(entry.getString("pixels")))
            val capture = capture(entry.getJSONObject("capture"))
            val fit = Fit.valueOf(entry.getString("fit").uppercase())
            val framed = Frame.frame(image, capture, fit)
            assertArrayEquals(capture.shape, framed.shape)
            assertArrayEquals(entry.getString("framed"), Vectors.bytes(entry.getString("framed")), framed.bytes())
            seen += capture.layout to fit
        }
        assertEquals(Layout.values().size * Fit.values().size, seen.size)
    }

    @Test
    fun `a photo too narrow to pad is refused, and can be cropped`() {
        val narrow = Pixels(1, 40_000, ByteArray(120_000))
        val capture = Capture(48, 64, Layout.RGB)
        val error = assertThrows(ImageException::class.java) { Frame.frame(narrow, capture, Fit.PAD) }
        assertTrue(error.message!!, "crop it instead" in error.message!!)
        assertEquals(48 * 64 * 3, Frame.frame(narrow, capture, Fit.CROP).size)
    }

    @Test
    fun `a shape beyond what 32 bits count is still framed`() {
        // 2^20 rows ask for 2^32 columns, of which there are two.
        val rows = 1 shl 20
        val tall = Pixels(2, rows, ByteArray(6 * rows) { if (it % 6 < 3) 0 else -56 })
        val flat = Capture(2, 8192, Layout.RGB)
        assertEquals(listOf(0, 200), Frame.frame(tall, flat, Fit.CROP).bytes().let { listOf(it.first(), it.last()) }
            .map { it.toInt() and 255 })
        assertThrows(ImageException::class.java) { Frame.frame(tall, flat, Fit.PAD) }
    }

    @Test
    fun `sizes are refused before memory is taken`() {
        Frame.checkSize(10_000, 10_000)
        for ((width, height) in listOf(10_001 to 10_000, 65_536 to 65_536, 0 to 5, 5 to -1)) {
            assertThrows(ImageException::class.java) { Frame.checkSize(width, height) }
        }
    }

    @Test
    fun `pixels are as many as their size says`() {
        assertThrows(ImageException::class.java) { Pixels(2, 2, ByteArray(11)) }
        assertThrows(ImageException::class.java) { Pixels(0, 2, ByteArray(0)) }
        assertThrows(ImageException::class.java) { Pixels(-1, -1, ByteArray(3)) }
    }
}
