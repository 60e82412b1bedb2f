package org.classkinfy.core

/** An upright photo: RGB, three bytes a pixel, row after row. */
class Pixels(val width: Int, val height: Int, val rgb: ByteArray) {
    init {
        if (width < 1 || height < 1 || rgb.size.toLong() != 3L * width * height) {
            throw ImageException("$width x $height pixels do not have ${rgb.size} bytes")
        }
    }
}
