package org.classkinfy.android

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import org.classkinfy.core.Decoder
import org.classkinfy.core.Frame
import org.classkinfy.core.ImageException
import org.classkinfy.core.Orientation
import org.classkinfy.core.Pixels

/**
 * The platform's own decoder, upright and without transparency.
 *
 * A photo of more than [MAX_DECODED] pixels is halved while it is decoded, until it is not: an app's
 * memory does not hold 50 million pixels twice. Smaller ones keep every pixel. Colours of a photo with a
 * profile of its own, such as Display P3, come as sRGB, where the toolkit's Python takes them as they stand.
 */
class BitmapDecoder : Decoder {
    override fun decode(photo: ByteArray): Pixels {
        val options = BitmapFactory.Options()
        options.inJustDecodeBounds = true
        BitmapFactory.decodeByteArray(photo, 0, photo.size, options)
        // Of others, orientation is kept where Orientation does not look.
        if (options.outMimeType !in TYPES) {
            throw ImageException("${options.outMimeType ?: "this"} is no JPEG or PNG photo; give one of these")
        }
        Frame.checkSize(options.outWidth, options.outHeight)
        options.inJustDecodeBounds = false
        options.inSampleSize = sampleSize(options.outWidth, options.outHeight)
        options.inPreferredConfig = Bitmap.Config.ARGB_8888
        // Else colours come back darker where they are transparent, and Python drops transparency.
        options.inPremultiplied = false
        try {
            val bitmap = BitmapFactory.decodeByteArray(photo, 0, photo.size, options)
                ?: throw ImageException("the photo is truncated or damaged; copy or take it again")
            val pixels = try {
                rgb(bitmap)
            } finally {
                bitmap.recycle()
            }
            return Orientation.apply(pixels, Orientation.of(photo))
        } catch (error: OutOfMemoryError) {
            throw ImageException("there is no memory for a photo of ${photo.size} bytes; scale it down first", error)
        }
    }

    private fun rgb(bitmap: Bitmap): Pixels {
        val width = bitmap.width
        val height = bitmap.height
        val rgb = ByteArray(3 * width * height)
        val line = IntArray(width)
        var at = 0
        for (y in 0 until height) {
            bitmap.getPixels(line, 0, width, 0, y, width, 1)
            for (colour in line) {
                rgb[at] = (colour shr 16).toByte()
                rgb[at + 1] = (colour shr 8).toByte()
                rgb[at + 2] = colour.toByte()
                at += 3
            }
        }
        return Pixels(width, height, rgb)
    }

    internal companion object {
        private val TYPES = listOf("image/jpeg", "image/png")
        const val MAX_DECODED = 16_000_000

        /** The power of two that a decoder divides both sides by. */
        fun sampleSize(width: Int, height: Int): Int {
            var size = 1
            while (maxOf(width / size, 1).toLong() * maxOf(height / size, 1) > MAX_DECODED) size *= 2
            return size
        }
    }
}
