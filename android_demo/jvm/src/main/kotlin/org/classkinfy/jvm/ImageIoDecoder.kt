package org.classkinfy.jvm

import java.awt.image.BufferedImage
import java.io.ByteArrayInputStream
import java.io.IOException
import javax.imageio.ImageIO
import org.classkinfy.core.Decoder
import org.classkinfy.core.Frame
import org.classkinfy.core.ImageException
import org.classkinfy.core.Orientation
import org.classkinfy.core.Pixels

/** Decodes by `javax.imageio`, as `BitmapFactory` does on Android. */
class ImageIoDecoder : Decoder {
    override fun decode(photo: ByteArray): Pixels {
        val image = try {
            read(photo)
        } catch (error: IOException) {
            throw ImageException("the photo is damaged: ${error.message}; take another one", error)
        }
        val pixels = Pixels(image.width, image.height, if (image.raster.numBands == 1) gray(image) else rgb(image))
        return Orientation.apply(pixels, Orientation.of(photo))
    }

    private fun read(photo: ByteArray): BufferedImage = ImageIO.createImageInputStream(ByteArrayInputStream(photo)).use {
        val reader = ImageIO.getImageReaders(it).asSequence().firstOrNull()
            ?: throw ImageException("${photo.size} bytes are no photo; give a JPEG or PNG")
        try {
            reader.input = it
            Frame.checkSize(reader.getWidth(0), reader.getHeight(0))
            reader.read(0)
        } finally {
            reader.dispose()
        }
    }

    private fun rgb(image: BufferedImage): ByteArray {
        val colours = image.getRGB(0, 0, image.width, image.height, null, 0, image.width)
        val rgb = ByteArray(3 * colours.size)
        for ((at, colour) in colours.withIndex()) {
            rgb[3 * at] = (colour shr 16).toByte()
            rgb[3 * at + 1] = (colour shr 8).toByte()
            rgb[3 * at + 2] = colour.toByte()
        }
        return rgb
    }

    /** Java takes grey for linear and would lighten it; a palette has one band too, and is none. */
    private fun gray(image: BufferedImage): ByteArray {
        if (image.type != BufferedImage.TYPE_BYTE_GRAY) return rgb(image)
        val levels = image.raster.getSamples(0, 0, image.width, image.height, 0, null as IntArray?)
        return ByteArray(3 * levels.size) { levels[it / 3].toByte() }
    }
}
