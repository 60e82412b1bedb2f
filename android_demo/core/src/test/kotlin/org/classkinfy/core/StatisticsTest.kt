package org.classkinfy.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

class StatisticsTest {
    @Test
    fun `percentiles are NumPy's, to the last bit`() {
        for (entry in Vectors.entries("statistics")) {
            val values = entry.getJSONArray("values").doubles()
            val expected = entry.getJSONArray("percentiles").doubles()
            val statistics = Statistics(values)
            for ((i, percent) in entry.getJSONArray("percents").doubles().withIndex()) {
                assertEquals("$percent of ${values.size}", expected[i], statistics.percentile(percent), 0.0)
            }
        }
    }

    @Test
    fun `of a hundred and one numbers they are what anyone counts`() {
        val shuffled = DoubleArray(101) { (it * 37 % 101).toDouble() }
        val json = Statistics(shuffled).toJson()
        assertEquals(listOf(50.0, 90.0, 99.0), listOf("p50", "p90", "p99").map { json.getDouble(it) })
        assertEquals(0.0, shuffled[0], 0.0) // which are left in their order
        assertEquals(37.0, shuffled[1], 0.0)
    }

    @Test
    fun `nothing, NaN and percents that are none are refused`() {
        assertThrows(IllegalArgumentException::class.java) { Statistics(DoubleArray(0)) }
        assertThrows(IllegalArgumentException::class.java) { Statistics(doubleArrayOf(1.0, Double.NaN)) }
        for (percent in listOf(-0.1, 100.1, Double.NaN)) {
            assertThrows(IllegalArgumentException::class.java) { Statistics(doubleArrayOf(1.0)).percentile(percent) }
        }
    }
}
