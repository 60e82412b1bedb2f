package org.classkinfy.core

import org.json.JSONArray
import org.json.JSONObject

/**
 * What a bundle says about one image. Research and education, never a diagnosis: show [disclaimer]
 * with every answer, and [severityNotice] with every severity.
 */
class Answer(
    @get:JvmName("isAccepted") val accepted: Boolean,
    /** Quality rules that the image breaks; some refuse it, some only advise. */
    val reasons: List<String>,
    val quality: Map<String, Float>,
    /** Null when the image was refused. */
    val diagnosis: String?,
    val confidence: Float,
    val probabilities: Map<String, Float>,
    /** What shape and colour alone suggest; null of a bundle without a `screen` stage. */
    val preliminary: Map<String, Float>?,
    /** A proxy grade; null when the diagnosis is not graded. */
    val severity: String?,
    val severityProbabilities: Map<String, Float>?,
    /** SHA-256 of the manifest. */
    val bundle: String,
    /** Format, precision and form: `onnx static_wi8_ai8 staged`. */
    val runtime: String,
    /** `frame`, which decodes, then every stage that ran. */
    val timingsMs: Map<String, Double>,
    val severityNotice: String,
    val disclaimer: String,
) {
    /** With the keys of Python's `Prediction.to_json`. */
    fun toJson(): JSONObject = JSONObject()
        .put("accepted", accepted)
        .put("reasons", JSONArray(reasons))
        .put("quality", numbers(quality))
        .put("diagnosis", diagnosis ?: JSONObject.NULL)
        .put("confidence", confidence.toDouble())
        .put("probabilities", numbers(probabilities))
        .put("preliminary", preliminary?.let(::numbers) ?: JSONObject.NULL)
        .put("severity", severity ?: JSONObject.NULL)
        .put("severity_probabilities", severityProbabilities?.let(::numbers) ?: JSONObject.NULL)
        .put("bundle", bundle)
        .put("runtime", runtime)
        .put("timings_ms", numbers(timingsMs))
        .put("severity_notice", severityNotice)
        .put("disclaimer", disclaimer)

    private fun numbers(values: Map<String, Number>): JSONObject {
        val json = JSONObject()
        for ((name, value) in values) json.put(name, value.toDouble())
        return json
    }
}
