package org.classkinfy.core

/**
 * The orientation that a camera noted in a photo's EXIF, for decoders of platforms that leave it to
 * others: the same code on all of them.
 */
object Orientation {
    private const val UPRIGHT = 1
    private const val TAG = 0x0112

    /**
     * Read the tag of a JPEG or PNG.
     *
     * @return 1 to 8 as EXIF numbers them; 1 where there is none, or none that makes sense
     */
    @JvmStatic
    fun of(photo: ByteArray): Int = try {
        val start = if (isJpeg(photo)) jpegExif(photo) else pngExif(photo)
        if (start < 0) UPRIGHT else tag(photo, start)
    } catch (_: IndexOutOfBoundsException) {
        UPRIGHT // its metadata is cut off; whether the image is, the decoder says
    }

    /** Turn and mirror as the tag says. */
    @JvmStatic
    fun apply(image: Pixels, orientation: Int): Pixels {
        if (orientation == UPRIGHT) return image
        require(orientation in 2..8) { "orientation is $orientation, expected 1 to 8" }
        val swaps = orientation >= 5
        val width = if (swaps) image.height else image.width
        val height = if (swaps) image.width else image.height
        val mirrorsX = orientation in setOf(2, 3, 7, 8)
        val mirrorsY = orientation in setOf(3, 4, 6, 7)
        val rgb = ByteArray(image.rgb.size)
        var into = 0
        for (y in 0 until height) {
            for (x in 0 until width) {
                val column = if (swaps) y else x
                val row = if (swaps) x else y
                val from = (if (mirrorsY) image.height - 1 - row else row) * image.width +
                    (if (mirrorsX) image.width - 1 - column else column)
                rgb[into++] = image.rgb[3 * from]
                rgb[into++] = image.rgb[3 * from + 1]
                rgb[into++] = image.rgb[3 * from + 2]
            }
        }
        return Pixels(width, height, rgb)
    }

    private fun isJpeg(data: ByteArray) = data.size > 2 && data[0] == 0xFF.toByte() && data[1] == 0xD8.toByte()

    /** Where the TIFF header of the first EXIF segment is, -1 without one. */
    private fun jpegExif(data: ByteArray): Int {
        var at = 2
        while (true) {
            while (byte(data, at) == 0xFF && byte(data, at + 1) == 0xFF) at++
            if (byte(data, at) != 0xFF) return -1
            val marker = byte(data, at + 1)
            // The image itself begins, or ends: metadata comes before it.
            if (marker == 0xDA || marker == 0xD9) return -1
            if (marker == 0xE1 && matches(data, at + 4, "Exif\u0000\u0000")) return at + 10
            at += 2 + number(data, at + 2, 2, little = false)
        }
    }

    private fun pngExif(data: ByteArray): Int {
        if (!matches(data, 1, "PNG\r\n\u001A\n")) return -1
        var at = 8
        while (true) {
            val length = number(data, at, 4, little = false)
            if (length !in data.indices || matches(data, at + 4, "IEND")) return -1
            if (matches(data, at + 4, "eXIf")) return at + 8
            at += 12 + length
        }
    }

    private fun tag(data: ByteArray, tiff: Int): Int {
        val little = matches(data, tiff, "II")
        if (!little && !matches(data, tiff, "MM")) return UPRIGHT
        val directory = tiff + number(data, tiff + 4, 4, little)
        for (entry in 0 until number(data, directory, 2, little)) {
            val at = directory + 2 + 12 * entry
            if (number(data, at, 2, little) == TAG) {
                return number(data, at + 8, 2, little).takeIf { it in 1..8 } ?: UPRIGHT
            }
        }
        return UPRIGHT
    }

    private fun matches(data: ByteArray, at: Int, text: String): Boolean =
        text.indices.all { byte(data, at + it) == text[it].code }

    private fun number(data: ByteArray, at: Int, bytes: Int, little: Boolean): Int =
        (0 until bytes).fold(0) { all, i -> all shl 8 or byte(data, at + if (little) bytes - 1 - i else i) }

    private fun byte(data: ByteArray, at: Int): Int = data[at].toInt() and 255
}
