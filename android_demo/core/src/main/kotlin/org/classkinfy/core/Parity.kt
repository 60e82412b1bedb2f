package org.classkinfy.core

/** How equal to PyTorch a runtime must be: the manifest's `parity`. */
class Parity private constructor(
    private val tolerances: Map<String, Double>,
    private val looser: Map<String, Double>,
    private val quantised: Map<String, Double>,
) {
    /**
     * The largest absolute difference that passes; 0 of exact tensors.
     *
     * @param runtime as [of] names it
     */
    fun tolerance(runtime: String, tensor: String): Double {
        val name = if (tensor.startsWith("severity_")) "severity" else tensor
        return (tolerances[name] ?: 0.0) * (looser[runtime] ?: 1.0)
    }

    /** Beside PyTorch, the share of images that a precision other than fp32 may decide otherwise. */
    fun drift(precision: String): Double = quantised.getValue(of(precision, "drift"))

    /** Likewise, the mean over images of the largest change of a probability. */
    fun meanShift(precision: String): Double = quantised.getValue(of(precision, "mean_shift"))

    private fun of(precision: String, limit: String): String = when {
        precision.startsWith(Manifest.CALIBRATED) -> limit
        precision == "fp16" -> "fp16_$limit"
        else -> "weight_only_$limit"
    }

    companion object {
        private val TOLERATED =
            listOf("preliminary", "features", "probabilities", "confidence", "severity", "embedding")
        private val LIMITS = listOf("drift", "mean_shift").flatMap { listOf(it, "fp16_$it", "weight_only_$it") }

        /**
         * The manifest's name of a runtime on this processor: ARM's kernels add up in another order,
         * and are asked for as `arm64-onnxruntime`.
         */
        @JvmStatic
        fun name(runtime: String, architecture: String = System.getProperty("os.arch") ?: ""): String =
            if (architecture in setOf("aarch64", "arm64")) "arm64-$runtime" else runtime

        internal fun read(json: Json): Parity {
            fun positive(table: Json, key: String): Double {
                val member = table.member(key)
                return member.number().also { if (it < 0) member.refuse("is $it, expected 0 or more") }
            }
            return Parity(
                TOLERATED.associateWith { positive(json, it) },
                json.member("runtimes").members().mapValues { positive(it.value, "looser") },
                LIMITS.associateWith { positive(json.member("quantised"), it) },
            )
        }
    }
}
