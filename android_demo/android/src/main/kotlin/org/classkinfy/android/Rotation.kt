package org.classkinfy.android

/** How a sensor's image lies on the screen: sensors are mounted at a right angle to most phones. */
object Rotation {
    /**
     * Degrees clockwise that make a sensor's image upright.
     *
     * @param sensor `SENSOR_ORIENTATION`
     * @param display degrees that the display is turned by, anticlockwise, as `Display.getRotation` counts
     * @param front whether the sensor looks at the user
     */
    @JvmStatic
    fun of(sensor: Int, display: Int, front: Boolean): Int =
        (if (front) sensor + display else sensor - display + 360) % 360
}
