package org.classkinfy.core

import java.nio.Buffer
import java.nio.ByteBuffer

/**
 * A camera frame, `YUV_420_888`: full range, BT.601, as Android's cameras have it.
 *
 * @param y [height] rows of [width] bytes, [yRowStride] apart
 * @param u rows of every second row and column, [chromaRowStride] apart, [chromaPixelStride] between
 *   pixels: 1 of a plane of its own, 2 where U and V take turns
 * @param v likewise
 * @param rotation degrees clockwise that make the frame upright: 0, 90, 180 or 270
 */
class YuvImage @JvmOverloads constructor(
    @JvmField val width: Int,
    @JvmField val height: Int,
    private val y: ByteBuffer,
    private val u: ByteBuffer,
    private val v: ByteBuffer,
    private val yRowStride: Int,
    private val chromaRowStride: Int,
    private val chromaPixelStride: Int,
    @JvmField val rotation: Int = 0,
) {
    private val chromaWidth = (width + 1) / 2
    private val chromaHeight = (height + 1) / 2

    init {
        Frame.checkSize(width, height)
        if (rotation !in setOf(0, 90, 180, 270)) {
            throw badImage("a rotation of $rotation degrees", "give 0, 90, 180 or 270")
        }
        checkPlane("Y", y, width, height, yRowStride, 1)
        checkPlane("U", u, chromaWidth, chromaHeight, chromaRowStride, chromaPixelStride)
        checkPlane("V", v, chromaWidth, chromaHeight, chromaRowStride, chromaPixelStride)
    }

    /** Of the upright image. */
    val uprightWidth: Int get() = if (rotation % 180 == 0) width else height
    val uprightHeight: Int get() = if (rotation % 180 == 0) height else width

    /**
     * Pack the upright image without padding: rows of luma, then rows of V and U in turn.
     *
     * @throws ImageException a width or height is odd, which NV21 has no pairs for
     */
    fun toNv21(): ByteArray {
        if (width % 2 != 0 || height % 2 != 0) {
            throw badImage("a frame of $width x $height has no NV21 form", "give an even size")
        }
        val packed = ByteArray(width * height * 3 / 2)
        eachUpright(width, height) { row, into, step ->
            val line = row(y, row, width, yRowStride, 1)
            var at = into
            for (x in 0 until width) {
                packed[at] = line[x]
                at += step
            }
        }
        eachUpright(chromaWidth, chromaHeight) { row, into, step ->
            val reds = row(v, row, chromaWidth, chromaRowStride, chromaPixelStride)
            val blues = row(u, row, chromaWidth, chromaRowStride, chromaPixelStride)
            var at = into
            for (x in 0 until chromaWidth) {
                packed[width * height + 2 * at] = reds[x * chromaPixelStride]
                packed[width * height + 2 * at + 1] = blues[x * chromaPixelStride]
                at += step
            }
        }
        return packed
    }

    /** The upright image in libjpeg's fixed-point arithmetic (ITU-T T.871), as the graph does it. */
    fun toRgb(): Pixels {
        val rgb = ByteArray(width * height * 3)
        eachUpright(width, height) { row, into, step ->
            val line = row(y, row, width, yRowStride, 1)
            val reds = row(v, row / 2, chromaWidth, chromaRowStride, chromaPixelStride)
            val blues = row(u, row / 2, chromaWidth, chromaRowStride, chromaPixelStride)
            var at = 3 * into
            for (x in 0 until width) {
                val luma = line[x].toInt() and 255
                val red = (reds[x / 2 * chromaPixelStride].toInt() and 255) - 128
                val blue = (blues[x / 2 * chromaPixelStride].toInt() and 255) - 128
                rgb[at] = level(luma + (91881 * red + HALF shr 16))
                rgb[at + 1] = level(luma + (-46802 * red - 22554 * blue + HALF shr 16))
                rgb[at + 2] = level(luma + (116130 * blue + HALF shr 16))
                at += 3 * step
            }
        }
        return Pixels(uprightWidth, uprightHeight, rgb)
    }

    /** Give each stored row of a plane, where its first pixel goes when upright, and the step to the next. */
    private inline fun eachUpright(columns: Int, rows: Int, place: (row: Int, into: Int, step: Int) -> Unit) {
        for (row in 0 until rows) {
            when (rotation) {
                0 -> place(row, row * columns, 1)
                90 -> place(row, rows - 1 - row, rows)
                180 -> place(row, (rows - row) * columns - 1, -1)
                else -> place(row, (columns - 1) * rows + row, -rows)
            }
        }
    }

    private fun row(plane: ByteBuffer, row: Int, columns: Int, rowStride: Int, pixelStride: Int): ByteArray {
        // A row at a time: to get bytes one by one from a direct buffer is slow.
        val bytes = ByteArray((columns - 1) * pixelStride + 1)
        val source = plane.duplicate()
        (source as Buffer).position(plane.position() + row * rowStride)
        source.get(bytes)
        return bytes
    }

    private fun checkPlane(
        name: String, plane: ByteBuffer, columns: Int, rows: Int, rowStride: Int, pixelStride: Int,
    ) {
        if (pixelStride < 1 || rowStride < (columns - 1).toLong() * pixelStride + 1) {
            throw badImage(
                "plane $name has rows of $columns pixels, $pixelStride apart, every $rowStride bytes",
                "give the strides of the image's own plane",
            )
        }
        val needed = (rows - 1).toLong() * rowStride + (columns - 1).toLong() * pixelStride + 1
        if (plane.remaining() < needed) {
            throw badImage(
                "plane $name has ${plane.remaining()} bytes, its rows need $needed",
                "give the whole plane, and before its image is closed",
            )
        }
    }

    private companion object {
        const val HALF = 1 shl 15

        fun level(value: Int): Byte = (if (value < 0) 0 else if (value > 255) 255 else value).toByte()
    }
}
