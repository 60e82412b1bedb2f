package org.classkinfy.demo

import android.content.res.Resources
import java.text.NumberFormat
import org.classkinfy.android.Qualification

/** What numbers and names of the bundle are called on screens. */
internal class Words(private val resources: Resources) {
    fun percent(probability: Float): String = NumberFormat.getPercentInstance().format(probability.toDouble())

    /** What to do about a quality reason; null is a good image. */
    fun hint(reason: String?): String = when (reason) {
        null -> resources.getString(R.string.hint_none)
        "hair" -> resources.getString(R.string.hint_hair)
        "blurred" -> resources.getString(R.string.hint_blurred)
        "underexposed" -> resources.getString(R.string.hint_underexposed)
        "overexposed" -> resources.getString(R.string.hint_overexposed)
        else -> resources.getString(R.string.hint_other, reason)
    }

    /** A line for each way that was tried. */
    fun trials(trials: List<Qualification.Trial>): String = trials.joinToString("\n") { trial ->
        val way = Qualification.describe(trial.options)
        trial.failure?.let { resources.getString(R.string.disagrees, way, it) }
            ?: resources.getString(R.string.agrees, way)
    }
}
