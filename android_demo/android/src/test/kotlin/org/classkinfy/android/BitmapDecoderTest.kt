package org.classkinfy.android

import org.junit.Assert.assertEquals
import org.junit.Test

class BitmapDecoderTest {
    @Test
    fun photosOfTwelveMegapixelsKeepEveryPixel() = assertEquals(1, BitmapDecoder.sampleSize(4032, 3024))

    @Test
    fun largerOnesAreHalvedUntilTheyFit() {
        assertEquals(2, BitmapDecoder.sampleSize(8160, 6144))
        assertEquals(4, BitmapDecoder.sampleSize(12000, 8300))
        assertEquals(4, BitmapDecoder.sampleSize(1, 64_000_001)) // a strip
    }
}
