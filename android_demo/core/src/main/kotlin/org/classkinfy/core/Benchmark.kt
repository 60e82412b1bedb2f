package org.classkinfy.core

import java.io.File
import java.io.IOException
import org.json.JSONArray
import org.json.JSONObject

/**
 * One configuration in one fresh process, as `classkinfy bench --adb` asks for it: opens, answers
 * once, warms up, then times answers. The JSON is `classkinfy_export.latency.device.app.AppResult`.
 *
 * @param app the app's version
 */
class Benchmark(private val app: String, private val memory: Memory) {
    /** What to measure; the names are the intent's extras. */
    class Order(
        @JvmField val bundle: File,
        /** A file with an encoded photo. */
        @JvmField val photo: File,
        /** Of the bundle that is meant; another is refused. */
        @JvmField val manifestSha256: String,
        @JvmField val options: Options,
        /** Answers to time. */
        @JvmField val n: Int,
        /** Answers before them. */
        @JvmField val warmup: Int,
        @JvmField val request: String,
    ) {
        init {
            require(n >= 1 && warmup >= 0) { "n is $n and warmup $warmup; give 1 or more, and 0 or more" }
        }
    }

    /**
     * @param startedMs how long ago this process was started
     * @return the whole result: a measurement, or why there is none
     */
    fun measure(order: Order, startedMs: Double): JSONObject {
        val result = JSONObject().put("request", order.request).put("app", app)
        val runtime = Services.engines().firstOrNull { it.name == order.options.runtime }
        result.put("runtime", runtime?.version ?: "").put("manifest_sha256", "")
        try {
            result.put("measurement", timed(order, startedMs, result))
        } catch (error: ClasskinfyException) {
            result.put("error", error.message)
        } catch (error: IOException) {
            result.put("error", "the photo cannot be read: ${error.message}")
        }
        return result
    }

    private fun timed(order: Order, startedMs: Double, result: JSONObject): JSONObject {
        val photo = order.photo.readBytes()
        val baseline = memory.resident()
        val start = System.nanoTime()
        val bundle = Bundle.open(order.bundle, order.options.trustedKeys)
        val opened = System.nanoTime()
        result.put("manifest_sha256", bundle.sha256)
        if (bundle.sha256 != order.manifestSha256) {
            throw badBundle("the bundle is ${bundle.sha256}, not ${order.manifestSha256}", "send it again")
        }
        ClasskinfyPipeline.of(bundle, order.options).use { pipeline ->
            pipeline.load()
            val loaded = System.nanoTime()
            val answer = pipeline.analyse(photo)
            val first = System.nanoTime()
            repeat(order.warmup) { pipeline.analyse(photo) }
            val answers = List(order.n) { Timed.answer(pipeline, photo, order.options.form) }
            return JSONObject()
                .put("diagnosis", pipeline.manifest.taxonomy.classes.indexOf(answer.diagnosis))
                .put("open_ms", (opened - start) / 1e6)
                .put("load_ms", (loaded - opened) / 1e6)
                .put("first_ms", (first - loaded) / 1e6)
                .put("cold_start_ms", startedMs + (first - start) / 1e6)
                .put("latency_ms", JSONArray(answers.map { it.latencyMs }))
                .put("stages_ms", columns(answers.map { it.stagesMs }))
                .put("told_ms", columns(answers.map { it.toldMs }))
                .put("baseline_bytes", baseline)
                .put("steady_bytes", memory.resident())
                .put("peak_bytes", memory.peak())
                .put("pss_bytes", memory.proportional())
        }
    }

    private fun columns(rows: List<Map<String, Double>>): JSONObject {
        val table = JSONObject()
        for (name in rows.first().keys) table.put(name, JSONArray(rows.map { it.getValue(name) }))
        return table
    }

    /** One answer, and when each part of it was told. */
    private class Timed(val latencyMs: Double, val stagesMs: Map<String, Double>, val toldMs: Map<String, Double>) {
        companion object {
            fun answer(pipeline: ClasskinfyPipeline, photo: ByteArray, form: Form): Timed {
                val told = LinkedHashMap<String, Double>()
                val start = System.nanoTime()
                fun note(name: String) {
                    // The one graph tells all at its end, and then a diagnosis is what is told.
                    if (form == Form.STAGED || name == "diagnosis") told[name] = (System.nanoTime() - start) / 1e6
                }
                val answer = pipeline.analyse(photo, object : Listener {
                    override fun onPreliminary(
                        quality: Map<String, Float>, reasons: List<String>, preliminary: Map<String, Float>?,
                    ) {
                        if (preliminary != null) note("preliminary")
                    }

                    override fun onDiagnosis(
                        diagnosis: String?, confidence: Float, probabilities: Map<String, Float>,
                    ) = note("diagnosis")

                    override fun onSeverity(severity: String, probabilities: Map<String, Float>) = note("severity")
                })
                return Timed((System.nanoTime() - start) / 1e6, answer.timingsMs, told)
            }
        }
    }
}
