package org.classkinfy.demo

import org.junit.Assert.assertEquals
import org.junit.Test

class SteadyHintTest {
    private fun shown(vararg frames: String?): List<String?> = SteadyHint().let { hint -> frames.map(hint::after) }

    @Test
    fun aHintIsShownWhenMostFramesAskForIt() =
        assertEquals(listOf(null, null, "hair", "hair"), shown("hair", "hair", "hair", null))

    @Test
    fun oneFrameDoesNotChangeIt() =
        assertEquals(null, shown(null, null, null, "blurred", null).last())

    @Test
    fun itGoesWhenMostFramesAreGood() =
        assertEquals(null, shown("hair", "hair", "hair", null, null, null).last())
}
