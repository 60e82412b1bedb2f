package org.classkinfy.android

import org.classkinfy.core.Bundle
import org.classkinfy.core.ClasskinfyException
import org.classkinfy.core.ClasskinfyPipeline
import org.classkinfy.core.EngineException
import org.classkinfy.core.Options
import org.classkinfy.core.SelfTest
import org.classkinfy.core.Services

/**
 * Finds the first wished way to run a bundle that agrees with PyTorch on this very phone, by its
 * self-test, and remembers what was found.
 *
 * What is remembered is of one bundle, app version, system, runtime, precision, form, number of
 * threads and accelerator. A way that ended the process when it was tried, as drivers of
 * accelerators do, is not tried again.
 *
 * @param app the app's version, which its runtimes come with
 * @param system the phone's, which its drivers come with: `Build.FINGERPRINT`
 */
class Qualification(private val memory: Memory, private val app: String, private val system: String) {
    /** Keeps verdicts when the app ends. What is put is kept before the call returns. */
    interface Memory {
        fun get(key: String): String?

        fun put(key: String, verdict: String)
    }

    /** One way that was asked for, and why it was not taken; null of the one that was. */
    class Trial(@JvmField val options: Options, @JvmField val failure: String?)

    /** A pipeline that agrees, and the trials up to it. */
    class Result(
        @JvmField val pipeline: ClasskinfyPipeline,
        @JvmField val options: Options,
        @JvmField val trials: List<Trial>,
    )

    /**
     * @param wishes in the order of preference; the last is what works everywhere, the CPU
     * @throws EngineException not one agrees: the reasons of all
     */
    @Throws(ClasskinfyException::class)
    fun first(bundle: Bundle, wishes: List<Options>): Result {
        val trials = ArrayList<Trial>()
        for (options in wishes) {
            val failure = verdict(bundle, options)
            trials += Trial(options, failure)
            if (failure == null) return Result(ClasskinfyPipeline.of(bundle, options), options, trials)
        }
        val reasons = trials.joinToString("\n") { "${describe(it.options)}: ${it.failure}" }
        throw EngineException("no runtime on this phone agrees with the model that it was made from\n$reasons")
    }

    private fun verdict(bundle: Bundle, options: Options): String? {
        val key = key(bundle, options)
        val known = memory.get(key)
        if (known == PASSED) return null
        if (known == STARTED) return "the app ended while it was tried"
        if (known != null) return known
        // Only an accelerator ends a process; a person may end the app while the CPU is tried.
        if (options.accelerator != null) memory.put(key, STARTED)
        val failure = try {
            // A pipeline of its own, for the test opens the graders of all diagnoses.
            ClasskinfyPipeline.of(bundle, options).use { explain(it.selfTest()) }
        } catch (error: ClasskinfyException) {
            error.message ?: error.toString()
        } catch (error: LinkageError) {
            "its library cannot be loaded: ${error.message}"
        }
        memory.put(key, failure ?: PASSED)
        return failure
    }

    private fun explain(report: SelfTest.Report): String? {
        if (report.passed) return null
        val more = if (report.failures.size > 1) "; and ${report.failures.size - 1} more" else ""
        return report.failures.first() + more
    }

    private fun key(bundle: Bundle, options: Options): String {
        val runtime = Services.engines().firstOrNull { it.name == options.runtime }
        return listOf(
            bundle.sha256, app, system, options.runtime, runtime?.version,
            options.precision, options.form.label, options.threads, options.accelerator,
        ).joinToString(" ")
    }

    companion object {
        private const val STARTED = "started"
        private const val PASSED = "passed"

        /** A way in words: `litert on gpu`. */
        @JvmStatic
        fun describe(options: Options): String =
            "${options.runtime ?: "first runtime"} on ${options.accelerator ?: "cpu"}"
    }
}
