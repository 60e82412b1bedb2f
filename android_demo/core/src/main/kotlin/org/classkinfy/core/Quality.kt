package org.classkinfy.core

/** What the quality rules say of one image. Comparisons are of float32, equal on every runtime. */
class Quality internal constructor(values: FloatArray, manifest: Manifest) {
    @JvmField
    val measures: Map<String, Float> = manifest.qualityMeasures.zip(values.toList()).toMap()

    private val broken: List<QualityRule> = manifest.qualityRules.filter { rule ->
        val value = measures.getValue(rule.measure)
        if (rule.above != null) value > rule.above else value < rule.below!!
    }

    /** In the rules' order. */
    @JvmField
    val reasons: List<String> = broken.map { it.reason }

    /** Bit i is set when rule i is broken. */
    @JvmField
    val bits: Int = broken.fold(0) { bits, rule -> bits or (1 shl manifest.qualityRules.indexOf(rule)) }

    @JvmField
    val accepted: Boolean = broken.none { it.refuses }
}
