package org.classkinfy.android

import android.media.Image
import org.classkinfy.core.YuvImage

/** A camera's [Image] as the core takes it. */
object ImagePlanes {
    /**
     * The planes themselves, not a copy: use the result before the image is closed.
     *
     * @param image `ImageFormat.YUV_420_888`
     * @param rotation degrees clockwise that make it upright, as of [Rotation]
     */
    @JvmStatic
    fun of(image: Image, rotation: Int): YuvImage {
        val (y, u, v) = image.planes
        return YuvImage(
            image.width, image.height, y.buffer, u.buffer, v.buffer,
            y.rowStride, u.rowStride, u.pixelStride, rotation,
        )
    }
}
