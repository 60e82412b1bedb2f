package org.classkinfy.demo

import android.app.Activity
import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.os.SystemClock
import android.view.View
import android.view.ViewGroup
import android.widget.ProgressBar
import android.widget.TextView
import org.classkinfy.bundle.BundleConstants
import org.classkinfy.core.Answer
import org.classkinfy.core.Taxonomy

/** The answer on one photo, each part shown as soon as it is known. */
internal class ResultActivity : Activity(), Analyst.Audience {
    private val words by lazy { Words(resources) }
    private val rows = LinkedHashMap<String, View>()
    private lateinit var taxonomy: Taxonomy
    private var startedMs = 0L

    override fun onCreate(saved: Bundle?) {
        super.onCreate(saved)
        setContentView(R.layout.result)
        text(R.id.disclaimer).text = BundleConstants.DISCLAIMER
        text(R.id.severity_notice).text = BundleConstants.SEVERITY_NOTICE
        text(R.id.licence).text = getString(R.string.weights_licence, BundleConstants.WEIGHTS_LICENCE)
        text(R.id.headline).setText(R.string.working)
        find<View>(R.id.again).setOnClickListener { finish() }
        val analyst = (application as DemoApplication).analyst
        val ready = analyst.state as? Analyst.State.Ready
        val photo = photo(analyst)
        // The process was ended meanwhile, and has forgotten the photo or is still opening.
        if (ready == null || photo == null) return finish()
        taxonomy = ready.bundle.manifest.taxonomy
        addRows()
        startedMs = SystemClock.elapsedRealtime()
        analyst.analyse(ready, photo, this)
    }

    override fun onPreliminary(
        quality: Map<String, Float>, reasons: List<String>, preliminary: Map<String, Float>?,
    ) {
        text(R.id.quality).text = quality(reasons)
        text(R.id.severity).setText(R.string.severity_waiting)
        val likeliest = preliminary?.maxByOrNull { it.value }
        if (likeliest == null) {
            text(R.id.headline).setText(R.string.preliminary_none)
            return
        }
        text(R.id.headline).text =
            getString(R.string.preliminary, taxonomy.title(likeliest.key), words.percent(likeliest.value))
        show(preliminary)
    }

    override fun onDiagnosis(diagnosis: String?, confidence: Float, probabilities: Map<String, Float>) {
        text(R.id.headline).text =
            if (diagnosis == null) getString(R.string.refused)
            else getString(R.string.most_likely, taxonomy.title(diagnosis), words.percent(confidence))
        show(probabilities)
    }

    override fun onSeverity(severity: String, probabilities: Map<String, Float>) {
        text(R.id.severity).text =
            getString(R.string.severity, severity, words.percent(probabilities.getValue(severity)))
    }

    override fun onAnswer(answer: Answer) {
        if (answer.severity == null) text(R.id.severity).setText(R.string.severity_none)
        text(R.id.took).text = getString(R.string.took, answer.runtime, SystemClock.elapsedRealtime() - startedMs)
    }

    override fun onFailure(reason: String) {
        text(R.id.headline).text = getString(R.string.analysis_failed, reason)
        text(R.id.severity).text = ""
        find<View>(R.id.probabilities).visibility = View.GONE
        find<View>(R.id.probabilities_heading).visibility = View.GONE
    }

    private fun photo(analyst: Analyst): (() -> ByteArray)? {
        val chosen = intent.data
        if (chosen != null) return { Photos.read(contentResolver, chosen) }
        val shot = analyst.photo ?: return null
        analyst.photo = null
        return { shot }
    }

    private fun quality(reasons: List<String>): String =
        if (reasons.isEmpty()) getString(R.string.quality_good)
        else reasons.joinToString("\n") { words.hint(it) }

    private fun addRows() {
        val table = find<ViewGroup>(R.id.probabilities)
        for (name in taxonomy.classes) {
            val row = layoutInflater.inflate(R.layout.probability, table, false)
            rows[name] = row
            table.addView(row)
        }
        show(emptyMap())
    }

    private fun show(probabilities: Map<String, Float>) {
        for ((name, row) in rows) {
            val probability = probabilities[name]
            row.find<ProgressBar>(R.id.probability_bar).progress =
                Math.round((probability ?: 0f) * BAR_STEPS)
            row.find<TextView>(R.id.probability_text).text =
                getString(R.string.probability_row, taxonomy.title(name), probability?.let(words::percent) ?: "–")
        }
    }

    private fun text(id: Int): TextView = find<TextView>(id)

    companion object {
        private const val BAR_STEPS = 1000

        /** Of the photo that the analyst holds. */
        fun ofShot(context: Context): Intent = Intent(context, ResultActivity::class.java)

        /** Of a photo that was chosen. */
        fun of(context: Context, photo: Uri): Intent = ofShot(context).setData(photo)
    }
}
