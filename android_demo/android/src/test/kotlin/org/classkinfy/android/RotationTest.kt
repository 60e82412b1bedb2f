package org.classkinfy.android

import org.junit.Assert.assertEquals
import org.junit.Test

class RotationTest {
    @Test
    fun aBackCameraTurnsAgainstTheDisplay() {
        // A phone's usual sensor; held upright, turned left, upside down, turned right.
        assertEquals(listOf(90, 0, 270, 180), listOf(0, 90, 180, 270).map { Rotation.of(90, it, front = false) })
    }

    @Test
    fun aFrontCameraTurnsWithIt() {
        assertEquals(listOf(270, 0, 90, 180), listOf(0, 90, 180, 270).map { Rotation.of(270, it, front = true) })
    }
}
