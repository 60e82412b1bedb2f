package org.classkinfy.core

/**
 * Any photo to the contract's image, byte for byte as `classkinfy_export.frame` on the same decoded
 * pixels: crop or pad to the capture's shape, exact resize, the capture's layout.
 */
object Frame {
    /** Of a photo. */
    const val MAX_PIXELS = 100_000_000

    /**
     * For decoders, to be asked of a header's size before memory is taken.
     *
     * @throws ImageException no pixels, or more than [MAX_PIXELS]
     */
    @JvmStatic
    @Throws(ImageException::class)
    fun checkSize(width: Int, height: Int) {
        if (width < 1 || height < 1 || width.toLong() * height > MAX_PIXELS) {
            throw badImage(
                "the image has $width x $height pixels, and 1 to ${MAX_PIXELS / 1_000_000} million are taken",
                "scale it down first",
            )
        }
    }

    /** @throws ImageException so narrow that padding would make it too large */
    @JvmStatic
    fun frame(image: Pixels, capture: Capture, fit: Fit): Tensor {
        val part = if (fit == Fit.CROP) crop(image, capture) else pad(image, capture)
        val rgb = Resampling.resize(image, part, capture.height, capture.width)
        return Tensor.of(Layouts.encode(rgb, capture.height, capture.width, capture.layout), *capture.shape)
    }

    /** A camera's frame of the capture's own size and layout is packed, and not converted. */
    @JvmStatic
    fun frame(image: YuvImage, capture: Capture, fit: Fit): Tensor {
        val itself = capture.layout == Layout.NV21 &&
            image.uprightWidth == capture.width && image.uprightHeight == capture.height
        return if (itself) Tensor.of(image.toNv21(), *capture.shape) else frame(image.toRgb(), capture, fit)
    }

    private fun crop(image: Pixels, capture: Capture): Part {
        val width = cut(image.width, floor(image.height, capture.width, capture.height))
        val height = cut(image.height, floor(image.width, capture.height, capture.width))
        return Part((image.height - height) / 2, (image.width - width) / 2, height, width)
    }

    private fun pad(image: Pixels, capture: Capture): Part {
        val width = maxOf(image.width.toLong(), ceiling(image.height, capture.width, capture.height))
        val height = maxOf(image.height.toLong(), ceiling(image.width, capture.height, capture.width))
        if (width > 4L * MAX_PIXELS / height) { // whose product may be beyond 64 bits
            throw badImage(
                "an image of ${image.width} x ${image.height} pixels is too narrow to pad", "crop it instead",
            )
        }
        val top = (height.toInt() - image.height) / 2
        val left = (width.toInt() - image.width) / 2
        return Part(-top, -left, height.toInt(), width.toInt())
    }

    private fun cut(side: Int, wanted: Long): Int = minOf(side.toLong(), maxOf(1, wanted)).toInt()

    private fun floor(side: Int, times: Int, by: Int): Long = side.toLong() * times / by

    private fun ceiling(side: Int, times: Int, by: Int): Long = (side.toLong() * times + by - 1) / by
}
