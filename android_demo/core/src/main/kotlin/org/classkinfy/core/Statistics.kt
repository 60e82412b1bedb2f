package org.classkinfy.core

import org.json.JSONObject

/** Percentiles of a sample, with NumPy's default, linear interpolation. */
class Statistics(values: DoubleArray) {
    private val sorted: DoubleArray = values.sortedArray()

    init {
        require(sorted.isNotEmpty()) { "there is nothing to take percentiles of" }
        require(sorted.none { it.isNaN() }) { "a NaN has no place in an order" }
    }

    val p50: Double get() = percentile(50.0)
    val p90: Double get() = percentile(90.0)
    val p99: Double get() = percentile(99.0)

    fun percentile(percent: Double): Double {
        require(percent in 0.0..100.0) { "percent is $percent, expected 0..100" }
        val position = percent / 100.0 * (sorted.size - 1)
        val below = position.toInt()
        val low = sorted[below]
        val high = sorted[minOf(below + 1, sorted.size - 1)]
        val part = position - below
        // Of the two forms NumPy takes the one that is exact at the nearer end.
        return if (part < 0.5) low + (high - low) * part else high - (high - low) * (1 - part)
    }

    fun toJson(): JSONObject = JSONObject().put("p50", p50).put("p90", p90).put("p99", p99)
}
