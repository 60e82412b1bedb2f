package org.classkinfy.core

import org.json.JSONArray
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class OrientationTest {
    @Test
    fun `photos are turned upright as Pillow turns them`() {
        val seen = HashSet<Int>()
        for (entry in Vectors.entries("orientations")) {
            val name = entry.getString("name")
            val orientation = Orientation.of(Vectors.bytes("$name.photo"))
            assertEquals(name, entry.getInt("orientation"), orientation)
            val upright = Orientation.apply(pixels("$name.stored", entry.getJSONArray("stored")), orientation)
            val expected = pixels("$name.upright", entry.getJSONArray("upright"))
            assertEquals(name, expected.width to expected.height, upright.width to upright.height)
            assertArrayEquals(name, expected.rgb, upright.rgb)
            seen += orientation
        }
        assertEquals((1..8).toSet(), seen)
    }

    @Test
    fun `metadata cut off anywhere is none`() {
        for (kind in listOf("JPEG_6", "PNG_6", "JPEG_comment")) {
            val photo = Vectors.bytes("orientations/$kind.photo")
            val whole = Orientation.of(photo)
            for (end in photo.indices) {
                val cut = Orientation.of(photo.copyOf(end))
                assertEquals("$kind cut at $end", true, cut == 1 || cut == whole)
            }
        }
    }

    @Test
    fun `metadata of noise is read without harm`() {
        val photo = Vectors.bytes("orientations/JPEG_6.photo")
        val random = java.util.Random(0)
        repeat(20_000) {
            val noisy = photo.copyOf()
            repeat(4) { noisy[2 + random.nextInt(200)] = random.nextInt(256).toByte() }
            assertEquals(true, Orientation.of(noisy) in 1..8)
        }
    }

    @Test
    fun `no other orientation is applied`() {
        val image = Pixels(1, 1, ByteArray(3))
        for (orientation in listOf(0, 9)) {
            assertThrows(IllegalArgumentException::class.java) { Orientation.apply(image, orientation) }
        }
    }

    private fun pixels(name: String, size: JSONArray) = Pixels(size.getInt(0), size.getInt(1), Vectors.bytes(name))
}
