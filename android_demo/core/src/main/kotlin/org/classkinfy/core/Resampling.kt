package org.classkinfy.core

/**
 * Exact bilinear resampling, byte for byte as `classkinfy_export.resampling`: a triangle filter whose
 * support grows with the scale, in 65536ths whose every row sums to 65536, rounded after each pass.
 */
object Resampling {
    private const val SCALE = 65536

    /** Of each target position the first source index, and weights in a row of [count]. */
    class Taps(@JvmField val first: IntArray, @JvmField val weights: IntArray, @JvmField val count: Int)

    /** The weights from [inSize] to [outSize] pixels. */
    @JvmStatic
    fun taps(inSize: Int, outSize: Int): Taps {
        require(inSize >= 1 && outSize >= 1) { "sizes must be positive, got $inSize -> $outSize" }
        // Positions in units of 1 / (2 * outSize) source pixels are integers: nothing is rounded.
        val support = 2L * maxOf(inSize, outSize)
        val unit = 2L * outSize
        val first = IntArray(outSize)
        val rows = Array(outSize) { i ->
            val center = (2L * i + 1) * inSize
            val low = maxOf((center - support + outSize) / unit, 0L)
            val high = minOf((center + support + outSize) / unit, inSize.toLong())
            first[i] = low.toInt()
            row(LongArray((high - low).toInt()) { k ->
                maxOf(support - Math.abs((2 * (low + k) + 1) * outSize - center), 0L)
            })
        }
        val count = rows.maxOf { it.size }
        val weights = IntArray(outSize * count)
        for (i in rows.indices) rows[i].copyInto(weights, i * count)
        return Taps(first, weights, count)
    }

    /** Fix weights to 65536ths by largest remainder, the first of equal ones. */
    private fun row(weights: LongArray): IntArray {
        val sum = weights.sum()
        val fixed = IntArray(weights.size) { (weights[it] * SCALE / sum).toInt() }
        val missing = SCALE - fixed.sum()
        weights.indices.sortedByDescending { weights[it] * SCALE % sum }.take(missing).forEach { fixed[it]++ }
        return fixed
    }

    /**
     * Resize a part of an image, which may reach beyond it: there it is black.
     *
     * @return RGB of [outHeight] x [outWidth], row by row
     */
    internal fun resize(image: Pixels, part: Part, outHeight: Int, outWidth: Int): ByteArray {
        val across = acrossRows(image, part, outWidth)
        if (part.height == outHeight) return across
        val taps = taps(part.height, outHeight)
        val stride = outWidth * 3
        val sums = IntArray(stride)
        val resized = ByteArray(outHeight * stride)
        for (y in 0 until outHeight) {
            sums.fill(SCALE / 2)
            for (t in 0 until taps.count) {
                val weight = taps.weights[y * taps.count + t]
                if (weight == 0) continue
                val from = (taps.first[y] + t) * stride
                for (i in 0 until stride) sums[i] += weight * (across[from + i].toInt() and 255)
            }
            for (i in 0 until stride) resized[y * stride + i] = (sums[i] shr 16).toByte()
        }
        return resized
    }

    private fun acrossRows(image: Pixels, part: Part, outWidth: Int): ByteArray {
        val stride = outWidth * 3
        val across = ByteArray(part.height * stride)
        val rows = maxOf(part.top, 0) until minOf(part.top + part.height, image.height)
        if (part.width == outWidth && part.left >= 0 && part.left + part.width <= image.width) {
            for (row in rows) {
                val from = (row * image.width + part.left) * 3
                image.rgb.copyInto(across, (row - part.top) * stride, from, from + stride)
            }
            return across
        }
        val taps = taps(part.width, outWidth)
        for (row in rows) {
            val line = row * image.width
            var into = (row - part.top) * stride
            for (x in 0 until outWidth) {
                var red = SCALE / 2
                var green = SCALE / 2
                var blue = SCALE / 2
                for (t in 0 until taps.count) {
                    val weight = taps.weights[x * taps.count + t]
                    val column = taps.first[x] + t + part.left
                    if (weight == 0 || column < 0 || column >= image.width) continue
                    val at = (line + column) * 3
                    red += weight * (image.rgb[at].toInt() and 255)
                    green += weight * (image.rgb[at + 1].toInt() and 255)
                    blue += weight * (image.rgb[at + 2].toInt() and 255)
                }
                across[into++] = (red shr 16).toByte()
                across[into++] = (green shr 16).toByte()
                across[into++] = (blue shr 16).toByte()
            }
        }
        return across
    }
}

/** A rectangle of an image; it may reach beyond it. */
internal class Part(val top: Int, val left: Int, val height: Int, val width: Int)
