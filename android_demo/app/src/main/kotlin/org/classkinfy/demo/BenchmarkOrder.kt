package org.classkinfy.demo

import java.io.File
import org.classkinfy.core.Benchmark
import org.classkinfy.core.Form
import org.classkinfy.core.Options

/** What `am start` asked for: extras as `classkinfy_export.latency.device.app.Order` names them. */
internal class BenchmarkOrder(private val extras: Extras) {
    interface Extras {
        fun text(name: String): String?

        /** Null when it is not there, or no int. */
        fun number(name: String): Int?
    }

    /** Of the result's file too, so it names a file and nothing else. */
    val request: String = text("request").also {
        require(REQUEST.matches(it)) { "extra 'request' is '$it'; give letters, digits, '-' and '_'" }
    }

    val fileName: String get() = "benchmark-$request.json"

    /** @throws IllegalArgumentException an extra is missing or makes no sense */
    fun order(): Benchmark.Order {
        val label = text("form")
        val form = Form.values().firstOrNull { it.label == label }
        requireNotNull(form) { "extra 'form' is '$label'; give ${Form.values().joinToString { it.label }}" }
        return Benchmark.Order(
            bundle = File(text("bundle")),
            photo = File(text("photo")),
            manifestSha256 = text("manifest_sha256"),
            options = Options(text("runtime"), text("precision"), form, number("threads")),
            n = number("n"),
            warmup = number("warmup"),
            request = request,
        )
    }

    private fun text(name: String): String = requireNotNull(extras.text(name)) { "extra '$name' is missing" }

    private fun number(name: String): Int =
        requireNotNull(extras.number(name)) { "extra '$name' is missing; give an int: --ei $name" }

    private companion object {
        val REQUEST = Regex("[A-Za-z0-9_-]{1,64}")
    }
}
