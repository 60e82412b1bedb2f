package org.classkinfy.demo

import org.classkinfy.demo.CameraSizes.Dimensions
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class CameraSizesTest {
    private fun sizes(vararg all: Pair<Int, Int>) = CameraSizes(all.map { Dimensions(it.first, it.second) })

    private fun CameraSizes.Dimensions.pair() = width to height

    private val phone = sizes(
        4032 to 3024, 3840 to 2160, 1920 to 1080, 1280 to 960, 1280 to 720, 800 to 600, 640 to 480, 320 to 240,
    )

    @Test
    fun framesAreTheSmallestThatNeedNoEnlarging() = assertEquals(640 to 480, phone.ofFrames(600, 450).pair())

    @Test
    fun aCameraWithoutEnoughGivesItsLargest() =
        assertEquals(320 to 240, sizes(160 to 120, 320 to 240).ofFrames(600, 450).pair())

    @Test
    fun photosAreTheLargestOfTheSensorsShapeWithinTheLimit() {
        assertEquals(4032 to 3024, phone.ofPhotos(13_000_000).pair())
        assertEquals(1280 to 960, phone.ofPhotos(2_100_000).pair())
    }

    @Test
    fun aCameraOfAnotherShapeIsTakenAsItIs() =
        assertEquals(1920 to 1080, sizes(1920 to 1080, 1280 to 720).ofPhotos(13_000_000).pair())

    @Test
    fun aCameraWithLargeSizesAloneGivesItsSmallest() =
        assertEquals(8160 to 6120, sizes(8160 to 6120, 16320 to 12240).ofPhotos(13_000_000).pair())

    @Test
    fun aCameraWithoutSizesIsRefused() {
        assertThrows(IllegalArgumentException::class.java) { sizes() }
    }
}
