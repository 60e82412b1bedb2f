package org.classkinfy.core

/**
 * Is told of each part of an answer as soon as it is known, on the thread that called `analyse`. In
 * the fused form all is known at once.
 */
interface Listener {
    /**
     * What quality, shape and colour tell before any network has run.
     *
     * @param quality by measure
     * @param reasons quality rules that the image breaks
     * @param preliminary probabilities by class; null of a bundle without a `screen` stage
     */
    fun onPreliminary(quality: Map<String, Float>, reasons: List<String>, preliminary: Map<String, Float>?) {}

    /** @param diagnosis null when the image was refused */
    fun onDiagnosis(diagnosis: String?, confidence: Float, probabilities: Map<String, Float>) {}

    /** A proxy grade. Not called when the diagnosis is not graded, or the image was refused. */
    fun onSeverity(severity: String, probabilities: Map<String, Float>) {}
}
