package org.classkinfy.core

import java.io.File
import org.json.JSONObject
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder

class BenchmarkTest {
    @get:Rule
    val temporary = TemporaryFolder()

    private val steps = ArrayList<String>()

    private val memory = object : Memory {
        override fun resident(): Long = (steps.size + 1L).also { steps += "resident" }

        override fun peak(): Long = 100L.also { steps += "peak" }

        override fun proportional(): Long = 50L.also { steps += "proportional" }
    }

    @Test
    fun `a measurement has a time of every answer, stage and part told`() {
        for (form in Form.values()) {
            val result = measure(order(Tiny.GRADED, form))
            val measurement = result.getJSONObject("measurement")
            assertEquals(4, measurement.getInt("diagnosis"))
            val latencies = measurement.getJSONArray("latency_ms").doubles()
            assertEquals(5, latencies.size)
            val stages = measurement.getJSONObject("stages_ms")
            val staged = listOf("frame", "prepare", "screen", "classify", "grade_mel")
            val told = if (form == Form.STAGED) listOf("preliminary", "diagnosis", "severity") else listOf("diagnosis")
            val ran = if (form == Form.STAGED) staged else listOf("frame", "pipeline")
            assertEquals(ran.toSet(), stages.keys().asSequence().toSet())
            assertEquals(told.toSet(), measurement.getJSONObject("told_ms").keys().asSequence().toSet())
            for (i in 0 until 5) {
                val parts = ran.sumOf { stages.getJSONArray(it).getDouble(i) }
                assertTrue("$parts ms of ${latencies[i]}", parts > 0 && parts <= latencies[i])
                val times = told.map { measurement.getJSONObject("told_ms").getJSONArray(it).getDouble(i) }
                assertEquals(times.sorted() + latencies[i], (times + latencies[i]).sorted())
            }
            val cold = measurement.getDouble("cold_start_ms")
            val since = listOf("open_ms", "load_ms", "first_ms").sumOf { measurement.getDouble(it) }
            assertEquals(1000.0 + since, cold, 1e-6)
        }
    }

    @Test
    fun `memory is read before the bundle is opened and after the last answer`() {
        val measurement = measure(order(Tiny.REFUSED)).getJSONObject("measurement")
        assertEquals(listOf("resident", "resident", "peak", "proportional"), steps)
        assertEquals(listOf(1L, 2L, 100L, 50L), listOf("baseline", "steady", "peak", "pss").map {
            measurement.getLong("${it}_bytes")
        })
        assertEquals(-1, measurement.getInt("diagnosis"))
    }

    @Test
    fun `the result is told to whom asked, of what, by which versions`() {
        val result = measure(order(Tiny.GRADED))
        assertEquals("r1", result.getString("request"))
        assertEquals("7.0", result.getString("app"))
        assertEquals("1.2.3", result.getString("runtime"))
        assertEquals(Tiny.bundle().sha256, result.getString("manifest_sha256"))
        assertFalse(result.has("error"))
    }

    @Test
    fun `what goes wrong is the result`() {
        val whole = order(Tiny.GRADED)
        val missing = Benchmark.Order(
            whole.bundle, File(temporary.root, "none"), whole.manifestSha256, whole.options, 1, 0, "r2",
        )
        val other = Benchmark.Order(whole.bundle, whole.photo, "0".repeat(64), whole.options, 1, 0, "r3")
        val noRuntime = Benchmark.Order(
            whole.bundle, whole.photo, whole.manifestSha256, Options(runtime = "litert"), 1, 0, "r4",
        )
        val noPhoto = Benchmark.Order(
            whole.bundle, photo(ByteArray(9)), whole.manifestSha256, whole.options, 1, 0, "r5",
        )
        for ((order, says) in listOf(missing to "photo", other to "0000", noRuntime to "litert", noPhoto to "9 bytes")) {
            val result = measure(order)
            assertTrue(result.toString(), says in result.getString("error"))
            assertFalse(result.has("measurement"))
            assertEquals(order.request, result.getString("request"))
        }
        assertEquals(Tiny.bundle().sha256, measure(other).getString("manifest_sha256"))
    }

    @Test
    fun `nothing is not measured`() {
        for ((n, warmup) in listOf(0 to 1, 1 to -1)) {
            assertThrows(IllegalArgumentException::class.java) { order(Tiny.GRADED, n = n, warmup = warmup) }
        }
        assertThrows(IllegalArgumentException::class.java) { Options(threads = 0) }
    }

    @Test
    fun `results are left for the toolkit to read`() {
        val folder = File(checkNotNull(System.getProperty("classkinfy.results")) { "-Dclasskinfy.results is not set" })
        folder.mkdirs()
        val linux = LinuxMemory { 4096L }
        for (form in Form.values()) {
            val result = Benchmark("7.0", linux).measure(order(Tiny.GRADED, form), 1000.0)
            File(folder, "benchmark-${form.label}.json").writeText(result.toString())
            val measurement = result.getJSONObject("measurement")
            val (steady, peak) = listOf("steady_bytes", "peak_bytes").map { measurement.getLong(it) }
            assertTrue("$steady of $peak bytes", steady in (10L shl 20)..peak)
        }
        val failed = measure(order(Tiny.GRADED).let {
            Benchmark.Order(it.bundle, it.photo, "0".repeat(64), it.options, 1, 0, "r1")
        })
        File(folder, "benchmark-failed.json").writeText(failed.toString())
    }

    private fun measure(order: Benchmark.Order): JSONObject = Benchmark("7.0", memory).measure(order, 1000.0)

    private fun order(pixel: IntArray, form: Form = Form.STAGED, n: Int = 5, warmup: Int = 1) = Benchmark.Order(
        Vectors.wholeBundle,
        photo(ByteArray(3) { pixel[it].toByte() }),
        Tiny.bundle().sha256,
        Options(runtime = "onnxruntime", precision = "fp32", form = form),
        n,
        warmup,
        "r1",
    )

    private fun photo(bytes: ByteArray): File = temporary.newFile().also { it.writeBytes(bytes) }
}
