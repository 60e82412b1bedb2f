package org.classkinfy.demo

import android.app.Activity
import android.app.AlertDialog
import org.classkinfy.android.Qualification
import org.classkinfy.bundle.BundleConstants
import org.classkinfy.core.Signer

/** The disclaimer, the bundle and its licence, what the self-test said, and the ways to run. */
internal class AboutDialog(
    private val activity: Activity,
    private val analyst: Analyst,
    private val ready: Analyst.State.Ready,
) {
    fun show() {
        val licence = activity.getString(R.string.weights_licence, BundleConstants.WEIGHTS_LICENCE)
        val text = activity.getString(
            R.string.about_text,
            "${BundleConstants.DISCLAIMER}\n\n${BundleConstants.SEVERITY_NOTICE}",
            BundleConstants.NAME,
            "${ready.bundle.sha256.take(SHOWN_DIGITS)}. $licence",
            signer(),
            Words(activity.resources).trials(ready.found.trials),
        )
        AlertDialog.Builder(activity)
            .setTitle(R.string.about_title)
            .setMessage(text)
            .setPositiveButton(R.string.close, null)
            .setNeutralButton(R.string.run_on) { _, _ -> choose() }
            .show()
    }

    private fun choose() {
        val ways = ready.ways.map { Qualification.describe(it) }
        AlertDialog.Builder(activity)
            .setTitle(R.string.run_on)
            .setSingleChoiceItems(ways.toTypedArray(), ready.ways.indexOf(ready.found.options)) { dialog, which ->
                dialog.dismiss()
                analyst.run(ready.ways[which])
            }
            .show()
    }

    private fun signer(): String = activity.getString(
        when (ready.bundle.signer) {
            Signer.Unsigned -> R.string.signer_unsigned
            is Signer.Trusted -> R.string.signer_trusted
            is Signer.Unknown -> R.string.signer_unknown
        },
    )

    private companion object {
        const val SHOWN_DIGITS = 12
    }
}
