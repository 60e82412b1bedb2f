package org.classkinfy.core

/** RGB in the layouts that cameras deliver, as `classkinfy_export.layouts`: BT.601, full range. */
object Layouts {
    /**
     * @param rgb R, G, B of each pixel, row by row
     * @return bytes as the capture's shape has them
     */
    @JvmStatic
    fun encode(rgb: ByteArray, height: Int, width: Int, layout: Layout): ByteArray = when (layout) {
        Layout.RGB -> rgb
        Layout.RGBA -> rgba(rgb)
        Layout.NV21 -> nv21(rgb, height, width)
    }

    private fun rgba(rgb: ByteArray): ByteArray {
        val pixels = rgb.size / 3
        val encoded = ByteArray(4 * pixels)
        for (i in 0 until pixels) {
            rgb.copyInto(encoded, 4 * i, 3 * i, 3 * i + 3)
            encoded[4 * i + 3] = -1
        }
        return encoded
    }

    private fun nv21(rgb: ByteArray, height: Int, width: Int): ByteArray {
        fun level(index: Int) = rgb[index].toInt() and 255
        val encoded = ByteArray(height * width * 3 / 2)
        for (i in 0 until height * width) {
            val luma = 19595 * level(3 * i) + 38470 * level(3 * i + 1) + 7471 * level(3 * i + 2)
            encoded[i] = (luma + (1 shl 15) shr 16).toByte()
        }
        var into = height * width
        for (y in 0 until height step 2) {
            for (x in 0 until width step 2) {
                // Four pixels a block, and 128 stands for no colour.
                var red = (128 shl 18) + (1 shl 17)
                var blue = red
                val corner = y * width + x
                for (at in intArrayOf(corner, corner + 1, corner + width, corner + width + 1)) {
                    val r = level(3 * at)
                    val g = level(3 * at + 1)
                    val b = level(3 * at + 2)
                    red += 32768 * r - 27439 * g - 5329 * b
                    blue += -11059 * r - 21709 * g + 32768 * b
                }
                encoded[into++] = (red shr 18).coerceIn(0, 255).toByte()
                encoded[into++] = (blue shr 18).coerceIn(0, 255).toByte()
            }
        }
        return encoded
    }
}
