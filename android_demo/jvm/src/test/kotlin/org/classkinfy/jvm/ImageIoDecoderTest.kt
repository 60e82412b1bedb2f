package org.classkinfy.jvm

import java.awt.image.BufferedImage
import java.io.ByteArrayOutputStream
import java.io.File
import javax.imageio.ImageIO
import org.classkinfy.core.ImageException
import org.json.JSONArray
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** Against Pillow's pixels, as `vectors.py` wrote them. */
class ImageIoDecoderTest {
    private val vectors = File(checkNotNull(System.getProperty("classkinfy.vectors")))
    private val cases = JSONArray(File(vectors, "orientations.json").readText())
        .let { all -> List(all.length()) { all.getJSONObject(it) } }

    private fun decode(name: String) = ImageIoDecoder().decode(File(vectors, "$name.photo").readBytes())

    private fun compare(kind: String) {
        val chosen = cases.filter { "/$kind" in it.getString("name") }
        assertTrue("${chosen.size} photos", chosen.size > 10)
        for (case in chosen) {
            val name = case.getString("name")
            val pixels = decode(name)
            val upright = case.getJSONArray("upright")
            assertEquals(name, upright.getInt(0), pixels.width)
            assertEquals(name, upright.getInt(1), pixels.height)
            val wanted = File(vectors, "$name.upright").readBytes()
            assertArrayEquals(name, wanted, pixels.rgb)
        }
    }

    @Test
    fun pngIsUprightAndEqualToPillows() = compare("PNG")

    /** Both have libjpeg's arithmetic; a phone's decoder may have another. */
    @Test
    fun jpegIsUprightAndEqualToPillows() = compare("JPEG")

    @Test
    fun greyLevelsStay() {
        val image = BufferedImage(256, 1, BufferedImage.TYPE_BYTE_GRAY)
        for (x in 0..255) image.raster.setSample(x, 0, 0, x)
        val file = ByteArrayOutputStream().also { ImageIO.write(image, "png", it) }.toByteArray()
        assertArrayEquals(ByteArray(3 * 256) { (it / 3).toByte() }, ImageIoDecoder().decode(file).rgb)
    }

    @Test
    fun aPaletteIsLookedUp() {
        val image = BufferedImage(2, 1, BufferedImage.TYPE_BYTE_INDEXED)
        image.setRGB(0, 0, 0xFF0000)
        image.setRGB(1, 0, 0x0000FF)
        val file = ByteArrayOutputStream().also { ImageIO.write(image, "png", it) }.toByteArray()
        assertArrayEquals(byteArrayOf(-1, 0, 0, 0, 0, -1), ImageIoDecoder().decode(file).rgb)
    }

    @Test
    fun whatIsNoPhotoIsRefused() {
        assertThrows(ImageException::class.java) { ImageIoDecoder().decode("no photo".toByteArray()) }
        assertThrows(ImageException::class.java) { ImageIoDecoder().decode(ByteArray(0)) }
    }

    @Test
    fun aCutOffPhotoIsRefused() {
        val name = cases.first { "/PNG" in it.getString("name") }.getString("name")
        val whole = File(vectors, "$name.photo").readBytes()
        assertThrows(ImageException::class.java) { ImageIoDecoder().decode(whole.copyOf(whole.size / 2)) }
    }
}
