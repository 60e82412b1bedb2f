package org.classkinfy.core

import java.nio.ByteBuffer
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

class YuvImageTest {
    @Test
    fun `planes of any stride and rotation become upright NV21 and RGB as the graph has them`() {
        val seen = HashSet<Pair<Int, Int>>()
        for (entry in Vectors.entries("frames_yuv")) {
            val image = image(entry)
            val what = entry.toString()
            val rgb = image.toRgb()
            assertArrayEquals(what, Vectors.bytes(entry.getString("nv21")), image.toNv21())
            assertArrayEquals(what, Vectors.bytes(entry.getString("rgb")), rgb.rgb)
            assertEquals(what, image.uprightWidth to image.uprightHeight, rgb.width to rgb.height)
            seen += image.rotation to entry.getInt("apart")
        }
        assertEquals(8, seen.size)
    }

    @Test
    fun `planes are read from their position and left as they are`() {
        val entry = Vectors.entries("frames_yuv").first { it.getInt("apart") == 2 && it.getInt("rotation") == 90 }
        fun later(plane: ByteBuffer): ByteBuffer {
            val buffer = ByteBuffer.allocateDirect(plane.remaining() + 7)
            buffer.position(7)
            buffer.put(plane)
            buffer.position(7)
            return buffer
        }
        val planes = listOf("y", "u", "v").map { later(plane(entry, it)) }
        val image = image(entry, planes)
        repeat(2) { assertArrayEquals(Vectors.bytes(entry.getString("nv21")), image.toNv21()) }
        assertEquals(listOf(7, 7, 7), planes.map { it.position() })
    }

    @Test
    fun `a frame of the capture's size and layout is packed and not converted`() {
        val entries = Vectors.entries("frames_yuv")
        val entry = entries.first { it.getInt("height") == 48 && it.getInt("rotation") == 0 }
        val framed = Frame.frame(image(entry), Capture(48, 64, Layout.NV21), Fit.CROP)
        assertArrayEquals(Vectors.bytes(entry.getString("nv21")), framed.bytes())
        // Of another size it goes by RGB, as a photo would.
        val other = Capture(24, 32, Layout.RGB)
        val photo = Pixels(64, 48, Vectors.bytes(entry.getString("rgb")))
        val expected = Frame.frame(photo, other, Fit.CROP).bytes()
        assertArrayEquals(expected, Frame.frame(image(entry), other, Fit.CROP).bytes())
    }

    @Test
    fun `odd sizes have RGB and no NV21`() {
        val image = YuvImage(3, 5, buffer(15), buffer(6), buffer(6), 3, 2, 1)
        assertEquals(45, image.toRgb().rgb.size)
        assertThrows(ImageException::class.java) { image.toNv21() }
    }

    @Test
    fun `planes that are too short, strides too small and odd angles are refused`() {
        fun refused(says: String, make: () -> YuvImage) {
            val error = assertThrows(ImageException::class.java) { make() }
            assertTrue(error.message!!, says in error.message!!)
        }
        YuvImage(8, 6, buffer(48), buffer(12), buffer(12), 8, 4, 1)
        refused("plane Y") { YuvImage(8, 6, buffer(47), buffer(12), buffer(12), 8, 4, 1) }
        refused("plane U") { YuvImage(8, 6, buffer(48), buffer(11), buffer(12), 8, 4, 1) }
        refused("plane V") { YuvImage(8, 6, buffer(48), buffer(12), buffer(11), 8, 4, 1) }
        refused("plane Y") { YuvImage(8, 6, buffer(48), buffer(12), buffer(12), 7, 4, 1) }
        refused("plane U") { YuvImage(8, 6, buffer(48), buffer(12), buffer(12), 8, 4, 0) }
        refused("plane U") { YuvImage(8, 6, buffer(48), buffer(12), buffer(12), 8, 4, 2) }
        refused("plane Y") { YuvImage(8, 6, buffer(48), buffer(12), buffer(12), Int.MAX_VALUE, 4, 1) }
        refused("45 degrees") { YuvImage(8, 6, buffer(48), buffer(12), buffer(12), 8, 4, 1, 45) }
        refused("pixels") { YuvImage(0, 6, buffer(48), buffer(12), buffer(12), 8, 4, 1) }
        refused("pixels") { YuvImage(100_000, 100_000, buffer(48), buffer(12), buffer(12), 100_000, 50_000, 1) }
    }

    private fun image(entry: JSONObject, planes: List<ByteBuffer> = listOf("y", "u", "v").map { plane(entry, it) }) =
        YuvImage(
            entry.getInt("width"), entry.getInt("height"), planes[0], planes[1], planes[2],
            entry.getInt("y_stride"), entry.getInt("stride"), entry.getInt("apart"), entry.getInt("rotation"),
        )

    private fun plane(entry: JSONObject, name: String): ByteBuffer =
        ByteBuffer.wrap(Vectors.bytes("${entry.getString("name")}.$name"))

    private fun buffer(size: Int): ByteBuffer = ByteBuffer.allocateDirect(size)
}
