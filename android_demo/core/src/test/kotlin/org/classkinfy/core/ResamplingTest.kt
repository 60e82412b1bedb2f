package org.classkinfy.core

import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class ResamplingTest {
    @Test
    fun `weights are those of the toolkit`() {
        for (entry in Vectors.entries("taps")) {
            val (inside, outside) = entry.getInt("in") to entry.getInt("out")
            val taps = Resampling.taps(inside, outside)
            val rows = entry.getJSONArray("weights")
            val weights = (0 until outside).flatMap { rows.getJSONArray(it).ints().toList() }
            assertArrayEquals("$inside -> $outside", entry.getJSONArray("first").ints(), taps.first)
            assertArrayEquals("$inside -> $outside", weights.toIntArray(), taps.weights)
        }
    }

    @Test
    fun `weights of a row sum to 65536 at any size`() {
        for ((inside, outside) in listOf(1 to 8192, 8192 to 1, 12_000 to 600, 601 to 600, 100_000 to 450)) {
            val taps = Resampling.taps(inside, outside)
            for (i in 0 until outside) {
                assertEquals(65536, (0 until taps.count).sumOf { taps.weights[i * taps.count + it] })
            }
        }
    }

    @Test
    fun `no size is nothing`() {
        assertThrows(IllegalArgumentException::class.java) { Resampling.taps(0, 5) }
        assertThrows(IllegalArgumentException::class.java) { Resampling.taps(5, 0) }
    }
}
